/** Classify image files: node main.js photo.jpg … */
import { classify } from './classifier.js';
import { readImage } from './read_image.js';

const paths = process.argv.slice(2);
if (paths.length === 0) {
  console.error('usage: node main.js IMAGE...');
  process.exit(2);
}
for (const path of paths) {
  console.log(path);
  for (const [label, score] of await classify(await readImage(path))) {
    console.log(`${(100 * score).toFixed(2).padStart(7)}%  ${label}`);
  }
}
