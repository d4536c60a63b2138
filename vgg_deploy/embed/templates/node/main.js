/** Classify image files: node main.js photo.jpg … */
import { Classifier } from './classifier.js';
import { readImage } from './read_image.js';

const paths = process.argv.slice(2);
if (paths.length === 0) {
  console.error('usage: node main.js IMAGE...');
  process.exit(2);
}
const model = await Classifier.load();
for (const path of paths) {
  try {
    const found = await model.classify(await readImage(path));
    console.log(path);
    for (const [label, score] of found) {
      console.log(`${(100 * score).toFixed(2).padStart(7)}%  ${label}`);
    }
  } catch (error) {
    console.error(`${path}: ${error.message.split('\n', 1)[0]}`);
    process.exitCode = 1;
  }
}
