import type { Image } from './classifier.js';

/** An image file, by its path or content, as 8-bit pixels, the right way up. */
export function readImage(file: string | Uint8Array): Promise<Image>;
