/**
 * Classify images with the ONNX model beside this file.
 *
 *     import { classify } from './classifier.js';
 *     await classify({ data, width, height }); // [['sneaker', 0.97], ['sandal', 0.02], …]
 *
 * The model resizes and normalises by itself: give it the image as it is.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';

import { best, refuseOldRuntime, requireBatch, requireOwnLabels, toChannels } from './pixels.js';

const OLDEST_RUNTIME = '1.22'; // the first that tells a model's input shape

export class Classifier {
  #session;
  #channels;

  /** @private use `Classifier.load` */
  constructor(session, labels) {
    this.#session = session;
    this.#channels = session.inputMetadata[0].shape[3];
    this.labels = labels;
  }

  /**
   * Load `model.onnx` and `labels.json` of a folder, by default the one of this file.
   *
   * @param {string | URL} [folder]  a path or a file: URL
   */
  static async load(folder = new URL('./', import.meta.url)) {
    refuseOldRuntime('onnxruntime-node', ort.env.versions?.node, OLDEST_RUNTIME);
    const path = /^file:/i.test(folder) ? fileURLToPath(folder) : folder;
    const labels = JSON.parse(await readFile(join(path, 'labels.json'), 'utf8'));
    const session = await ort.InferenceSession.create(join(path, 'model.onnx'));
    requireOwnLabels(labels, session);
    return new Classifier(session, labels);
  }

  /**
   * The most probable labels of one image with their probabilities, best first.
   *
   * @param {import('./pixels.js').Image} image  grey, grey + alpha, RGB or RGBA, of any size
   * @param {number} [top]
   * @returns {Promise<[label: string, score: number][]>}
   */
  async classify(image, top = 5) {
    const pixels = toChannels(image, this.#channels);
    const { probabilities } = await this.run(pixels, [1, image.height, image.width, this.#channels]);
    return best(probabilities, this.labels, top);
  }

  /**
   * Images of equal size in one run.
   *
   * @param {Uint8Array} pixels
   * @param {number[]} dims  [N, H, W, C]; C is what the model takes
   * @returns {Promise<{ probabilities: Float32Array, logits: Float32Array }>}  N × classes each
   */
  async run(pixels, dims) {
    requireBatch(pixels, dims, this.#channels);
    const image = new ort.Tensor('uint8', pixels, dims);
    const { probabilities, logits } = await this.#session.run({ image });
    return { probabilities: probabilities.data, logits: logits.data };
  }
}

let shared;

/** `classify` of a model that is loaded once, at the first call. */
export async function classify(image, top) {
  shared ??= Classifier.load().catch((error) => {
    shared = undefined; // the next call tries again
    throw error;
  });
  return (await shared).classify(image, top);
}
