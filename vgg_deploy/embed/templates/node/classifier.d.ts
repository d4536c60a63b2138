/** Pixels row by row, channels interleaved: grey, grey + alpha, RGB or RGBA. */
export interface Image {
  /** height × width × channels bytes */
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** A label and its probability. */
export type Found = [label: string, score: number];

/** A loaded model. */
export class Classifier {
  private constructor();

  /** Load `model.onnx` and `labels.json` of a folder, by default the one of this file. */
  static load(folder?: string | URL): Promise<Classifier>;

  readonly labels: string[];

  /** The `top` (5) most probable labels of one image of any size, best first. */
  classify(image: Image, top?: number): Promise<Found[]>;

  /** Images of equal size in one run; `dims` is [N, H, W, C], and C is what the model takes. */
  run(
    pixels: Uint8Array | Uint8ClampedArray,
    dims: readonly number[],
  ): Promise<{ probabilities: Float32Array; logits: Float32Array }>;
}

/** `classify` of a model that is loaded once, at the first call. */
export function classify(image: Image, top?: number): Promise<Found[]>;
