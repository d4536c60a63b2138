/** Classify image files: node main.js photo.jpg … */
import sharp from 'sharp';

import { classify } from './classifier.js';

const paths = process.argv.slice(2);
if (paths.length === 0) {
  console.error('usage: node main.js IMAGE...');
  process.exit(2);
}
for (const path of paths) {
  const { data, info } = await sharp(path).rotate().raw().toBuffer({ resolveWithObject: true });
  console.log(path);
  for (const [label, score] of await classify({ data, width: info.width, height: info.height })) {
    console.log(`${(100 * score).toFixed(2).padStart(7)}%  ${label}`);
  }
}
