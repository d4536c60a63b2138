/**
 * Classify images in the browser.
 *
 *     import { classify } from './classifier.js';
 *     await classify(imageData); // [['sneaker', 0.97], ['sandal', 0.02], …]
 *
 * The model resizes and normalises by itself: give it the image as it is.
 */
import { best, refuseOldRuntime, requireBatch, requireOwnLabels, toChannels } from './pixels.js';

const OLDEST_RUNTIME = '1.22'; // the first that tells a model's input shape

// In this very form, which bundlers know: they put these files, as they are, among a site's.
const OWN = {
  labels: new URL('./labels.json', import.meta.url),
  model: new URL('./model.onnx', import.meta.url),
};
const ORT = {
  api: new URL('./ort/ort.wasm.min.mjs', import.meta.url),
  mjs: new URL('./ort/ort-wasm-simd-threaded.mjs', import.meta.url),
  wasm: new URL('./ort/ort-wasm-simd-threaded.wasm', import.meta.url),
};

export class Classifier {
  #ort;
  #session;
  #channels;

  /** @private use `Classifier.load` */
  constructor(ort, session, labels) {
    this.#ort = ort;
    this.#session = session;
    this.#channels = session.inputMetadata[0].shape[3];
    this.labels = labels;
  }

  /**
   * Load `model.onnx` and `labels.json` of a folder, by default the one of this file.
   *
   * @param {string | URL} [folder]  relative to the page
   * @param {(share: number) => void} [onProgress]  called with 0..1 while the model arrives
   */
  static async load(folder, onProgress = () => {}) {
    const ort = await runtime();
    refuseOldRuntime('onnxruntime-web', ort.env.versions?.web, OLDEST_RUNTIME);
    const urls = folder === undefined ? OWN : filesOf(folder);
    const [labels, model] = await Promise.all([
      get(urls.labels).then((response) => response.json()),
      get(urls.model).then((response) => download(response, onProgress)),
    ]);
    const session = await ort.InferenceSession.create(model);
    requireOwnLabels(labels, session);
    return new Classifier(ort, session, labels);
  }

  /**
   * The most probable labels of one image with their probabilities, best first.
   *
   * @param {import('./pixels.js').Image} image  such as an ImageData, of any size
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
    const image = new this.#ort.Tensor('uint8', pixels.slice(), dims); // the worker takes it for good
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

/** ONNX Runtime; a file of its own in a bundle, too, because its worker starts from that file. */
async function runtime() {
  const ort = await import(/* @vite-ignore */ /* webpackIgnore: true */ ORT.api.href);
  ort.env.wasm.wasmPaths ??= { mjs: ORT.mjs.href, wasm: ORT.wasm.href };
  ort.env.wasm.proxy = true; // compute in a worker: the page stays responsive
  return ort;
}

function filesOf(folder) {
  const base = new URL(`${folder}`.replace(/\/*$/, '/'), self.document?.baseURI ?? self.location.href);
  return { labels: new URL('labels.json', base), model: new URL('model.onnx', base) };
}

async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: ${response.status} ${response.statusText}`);
  return response;
}

async function download(response, onProgress) {
  const size = Number(response.headers.get('Content-Length')); // of what is sent: less if compressed
  if (!size) return new Uint8Array(await response.arrayBuffer());
  const parts = [];
  let arrived = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    arrived += value.length;
    onProgress(Math.min(1, arrived / size));
  }
}
