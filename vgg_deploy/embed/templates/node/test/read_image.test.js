/** What image files hold. */
import assert from 'node:assert/strict';
import test from 'node:test';
import sharp from 'sharp';

import { readImage } from '../read_image.js';

const made = (samples, channels) =>
  sharp(samples, { raw: { width: samples.length / channels, height: 1, channels } });

test('8 bits stay as they are, whatever the colour profile', async () => {
  const plain = await readImage(await made(Uint8Array.of(255, 0, 0), 3).png().toBuffer());
  assert.deepEqual([...plain.data], [255, 0, 0]);
  const profiled = await made(Uint8Array.of(255, 0, 0), 3).withIccProfile('p3').png().toBuffer();
  assert.deepEqual([...(await readImage(profiled)).data], [234, 51, 34]); // red in Display P3
});

test('16 bits are rounded to 8', async () => {
  const samples = Uint16Array.of(0, 128, 129, 65535, 385, 386);
  const grey = await made(samples, 1).toColourspace('grey16').png().toBuffer();
  assert.deepEqual([...(await readImage(grey)).data], [0, 0, 1, 255, 1, 2]);
  const colours = await made(samples, 3).toColourspace('rgb16').png().toBuffer();
  const { data, width, height } = await readImage(colours);
  assert.deepEqual([[...data], width, height], [[0, 0, 1, 255, 1, 2], 2, 1]);
});

test('floating-point pixels are refused', async () => {
  const deep = made(Float32Array.of(0, 0.5, 1), 3).toColourspace('scrgb');
  const file = await deep.tiff({ compression: 'none' }).toBuffer();
  await assert.rejects(readImage(file), /float samples, whose range is not defined/);
});

/** An uncompressed TIFF of one row whose PhotometricInterpretation says something else. */
async function tiff(photometric, samples, channels) {
  const file = await made(samples, channels).tiff({ compression: 'none' }).toBuffer();
  for (let at = file.readUInt32LE(4) + 2; ; at += 12) {
    if (file.readUInt16LE(at) !== 262) continue;
    file.writeUInt16LE(photometric, at + 8);
    return file;
  }
}

test('of CMYK each colour lies on what black leaves of white', async () => {
  const { data } = await readImage(await tiff(5, Uint8Array.of(0, 0, 0, 0, 255, 51, 0, 55, 9, 9, 9, 255), 4));
  assert.deepEqual([...data], [255, 255, 255, 0, 160, 200, 0, 0, 0]);
});

test('YCbCr in a TIFF is refused', async () => {
  assert.deepEqual([...(await readImage(await tiff(2, Uint8Array.of(1, 2, 3), 3))).data], [1, 2, 3]);
  await assert.rejects(readImage(await tiff(6, Uint8Array.of(1, 2, 3), 3)), /save the image as RGB/);
});

test('SVG is refused, whatever it is called', async () => {
  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>');
  await assert.rejects(readImage(svg), /svg is not read/);
});
