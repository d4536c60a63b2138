/** Image files as pixels; it needs sharp. */
import sharp from 'sharp';

/**
 * An image file as 8-bit pixels, the right way up, its numbers as they are stored: as in training, a
 * colour profile is not applied.
 *
 * @param {string | Buffer} file  its path or content
 * @returns {Promise<import('./pixels.js').Image>}
 */
export async function readImage(file) {
  const { depth, channels } = await sharp(file).metadata();
  if (depth !== 'uchar' && depth !== 'ushort') {
    throw new TypeError(`${depth} samples, whose range is not defined: give an image of 8 or 16 bits`);
  }
  const image = sharp(file, { ignoreIcc: true }).rotate();
  if (depth === 'ushort') image.toColourspace(channels < 3 ? 'grey16' : 'rgb16').raw({ depth });
  else image.raw();
  const { data, info } = await image.toBuffer({ resolveWithObject: true });
  return { data: depth === 'ushort' ? eightBits(data) : data, width: info.width, height: info.height };
}

/** 16-bit samples as 8-bit ones, rounded. */
function eightBits({ buffer, byteOffset, byteLength }) {
  const samples = new Uint16Array(buffer, byteOffset, byteLength / 2);
  return Uint8Array.from(samples, (sample) => Math.floor((sample + 128) / 257));
}
