/** Image files as pixels; it needs sharp. */
import { readFile } from 'node:fs/promises';
import sharp from 'sharp';

const FORMATS = ['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif']; // heif: AVIF
const SPACES = ['srgb', 'b-w', 'rgb16', 'grey16', 'cmyk'];

/**
 * An image file as 8-bit pixels, the right way up, its numbers as they are stored: as in training, a
 * colour profile is not applied. JPEG, PNG, WebP, GIF, TIFF and AVIF.
 *
 * @param {string | Uint8Array} file  its path or content
 * @returns {Promise<import('./pixels.js').Image>}
 */
export async function readImage(file) {
  const content = typeof file === 'string' ? await readFile(file) : file;
  const { format, depth, channels, space } = await sharp(content).metadata();
  if (!FORMATS.includes(format)) {
    throw new TypeError(`${format} is not read: give a JPEG, PNG, WebP, GIF, TIFF or AVIF`);
  }
  if (depth !== 'uchar' && depth !== 'ushort') {
    throw new TypeError(`${depth} samples, whose range is not defined: give an image of 8 or 16 bits`);
  }
  if (!SPACES.includes(space) || (format === 'tiff' && isPlainYcc(content))) {
    throw new TypeError('colours that are neither grey, RGB nor CMYK: save the image as RGB');
  }
  const image = sharp(content, { ignoreIcc: true }).rotate();
  if (space === 'cmyk') image.pipelineColourspace('cmyk').toColourspace('cmyk');
  else if (depth === 'ushort') image.toColourspace(channels < 3 ? 'grey16' : 'rgb16');
  const { data, info } = await image.raw({ depth }).toBuffer({ resolveWithObject: true });
  const pixels = depth === 'ushort' ? eightBits(data) : data;
  return {
    data: space === 'cmyk' ? toRgb(pixels, channels) : pixels,
    width: info.width,
    height: info.height,
  };
}

/** 16-bit samples as 8-bit ones, rounded. */
function eightBits({ buffer, byteOffset, byteLength }) {
  const samples = new Uint16Array(buffer, byteOffset, byteLength / 2);
  return Uint8Array.from(samples, (sample) => Math.floor((sample + 128) / 257));
}

/** As Pillow converts it: each colour on what black leaves of white, rounded. */
function toRgb(cmyk, channels) {
  const pixels = new Uint8Array((cmyk.length / channels) * 3);
  for (let from = 0, to = 0; from < cmyk.length; from += channels, to += 3) {
    const white = 255 - cmyk[from + 3];
    for (let i = 0; i < 3; i++) pixels[to + i] = white - Math.floor((cmyk[from + i] * white + 127) / 255);
  }
  return pixels;
}

/** Whether a TIFF holds YCbCr that is not in JPEGs: libvips takes it for RGB, and does not tell. */
function isPlainYcc(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const little = view.getUint8(0) === 0x49; // "II"
  if (view.getUint16(2, little) !== 42) return false; // BigTIFF, which is laid out otherwise
  const tags = new Map();
  const first = view.getUint32(4, little);
  for (let i = 0, at = first + 2; i < view.getUint16(first, little); i++, at += 12) {
    tags.set(view.getUint16(at, little), view.getUint16(at + 8, little));
  }
  return tags.get(262) === 6 && tags.get(259) !== 7; // PhotometricInterpretation, Compression
}
