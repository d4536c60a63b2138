/** Image files as bitmaps. */

// By EXIF's orientation: what a canvas draws a picture of w × h pixels with, a to f of its matrix.
const TURNS = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

/**
 * An image file, the right way up, its numbers as they are stored: as in training, a colour profile
 * is not applied.
 *
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}
 */
export async function readImage(file) {
  const options = { colorSpaceConversion: 'none' };
  if (!(await isWebp(file))) return createImageBitmap(file, options);
  // Browsers turn other formats by themselves; of WebP Chromium ignores EXIF.
  const turn = TURNS[orientationOf(new DataView(await file.arrayBuffer()))];
  const bitmap = await createImageBitmap(file, { ...options, imageOrientation: 'none' });
  return turn ? turned(bitmap, turn(bitmap.width, bitmap.height)) : bitmap;
}

function turned(bitmap, matrix) {
  const size = matrix[0] ? [bitmap.width, bitmap.height] : [bitmap.height, bitmap.width];
  const canvas = new OffscreenCanvas(...size);
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.setTransform(...matrix);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.transferToImageBitmap();
}

async function isWebp(file) {
  const view = new DataView(await file.slice(0, 12).arrayBuffer());
  return view.byteLength === 12 && name(view, 0) === 'RIFF' && name(view, 8) === 'WEBP';
}

/** EXIF's orientation, 1 to 8, in a WebP file; 1 where there is none that can be read. */
function orientationOf(view) {
  try {
    for (let at = 12, size; at + 8 <= view.byteLength; at += 8 + size + (size % 2)) {
      size = view.getUint32(at + 4, true);
      if (name(view, at) === 'EXIF') return orientationIn(view, at + 8);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // beyond the end
  }
  return 1;
}

/** The same in EXIF, which is laid out as a TIFF is. */
function orientationIn(view, start) {
  const base = name(view, start) === 'Exif' ? start + 6 : start;
  const little = view.getUint16(base) === 0x4949;
  const first = base + view.getUint32(base + 4, little);
  for (let i = 0, at = first + 2; i < view.getUint16(first, little); i++, at += 12) {
    const isShort = view.getUint16(at + 2, little) === 3;
    if (view.getUint16(at, little) === 0x0112 && isShort) return view.getUint16(at + 8, little);
  }
  return 1;
}

function name(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
}
