/** The page: an image from a file, a drop, the clipboard or the camera, and its five best labels. */
import { Classifier } from './classifier.js';
import { readImage } from './read_image.js';

const $ = (id) => document.getElementById(id);
const picture = $('picture');
const pixels = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
const percent = new Intl.NumberFormat(undefined, { style: 'percent', minimumFractionDigits: 1 });

const model = step('The model could not be loaded', () =>
  Classifier.load(undefined, (share) => say(`Loading the model: ${percent.format(share)}`)));
model.then(() => say('Ready. Choose an image.'), fail);

let wish = 0; // counts what was asked for: the answer to an earlier wish is dropped

/** What a screen reader announces too; unchanged text is not announced again. */
function say(text) {
  if ($('status').textContent !== text) $('status').textContent = text;
}

/** An error in the words of the step that failed. */
class Failure extends Error {}

async function step(what, work) {
  try {
    return await work();
  } catch (cause) {
    throw cause instanceof Failure ? cause : new Failure(`${what}: ${cause?.message ?? cause}`, { cause });
  }
}

function fail(error) {
  console.error(error);
  say(error.message);
  $('result').replaceChildren();
}

/** Classify anything that a canvas can draw, and show it, if that is still wanted then. */
async function classify(source, width, height, wanted) {
  const labels = await step('The image could not be classified', async () => {
    if (!(width > 0 && height > 0)) throw new RangeError('it has no pixels');
    Object.assign(pixels.canvas, { width, height });
    pixels.fillRect(0, 0, width, height); // transparent parts lie on black, as in training
    pixels.drawImage(source, 0, 0);
    const image = pixels.getImageData(0, 0, width, height); // before the canvas is drawn on again
    return (await model).classify(image);
  });
  if (wanted()) show(labels);
}

function show(labels) {
  say(`${labels[0][0]}, ${percent.format(labels[0][1])}`);
  $('result').replaceChildren(
    ...labels.map(([label, score]) => {
      const row = $('row').content.cloneNode(true).firstElementChild;
      row.querySelector('.label').textContent = label;
      row.querySelector('.score').textContent = percent.format(score);
      row.querySelector('.bar').style.setProperty('--score', score);
      return row;
    }),
  );
}

async function classifyFile(file) {
  stopCamera();
  const mine = wish, wanted = () => mine === wish;
  say('Looking …');
  try {
    const [bitmap, shown] = await step(`${file.name || 'That'} is not an image that this browser can read`,
      async () => {
        const bitmap = await readImage(file);
        return [bitmap, await createImageBitmap(bitmap)];
      });
    if (wanted()) {
      Object.assign(picture, { width: bitmap.width, height: bitmap.height });
      picture.getContext('bitmaprenderer').transferFromImageBitmap(shown);
      picture.classList.toggle('tiny', bitmap.width < 200); // show its pixels, not a blur
      document.body.dataset.shows = 'picture';
      await classify(bitmap, bitmap.width, bitmap.height, wanted);
    }
    bitmap.close();
  } catch (error) {
    if (wanted()) fail(error);
  }
}

let camera; // the stream while it is on

async function startCamera(deviceId) {
  stopCamera();
  const mine = wish, wanted = () => mine === wish;
  try {
    await step('The camera could not be used', async () => {
      const video = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'environment' };
      const stream = await navigator.mediaDevices.getUserMedia({ video });
      if (!wanted()) return stop(stream);
      camera = stream;
      await watch(stream, wanted);
    });
  } catch (error) {
    if (!wanted()) return;
    stopCamera();
    fail(error);
  }
}

/** Classify frame after frame, for as long as `wanted()`. */
async function watch(stream, wanted) {
  const video = $('video');
  $('camera').textContent = 'Stop the camera';
  video.srcObject = stream;
  await video.play();
  if (!wanted()) return;
  document.body.dataset.shows = 'video';
  await listCameras(stream);
  while (wanted()) {
    await classify(video, video.videoWidth, video.videoHeight, wanted);
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function stopCamera() {
  wish += 1;
  if (camera) stop(camera);
  camera = undefined;
  $('camera').textContent = 'Use the camera';
}

/** Offer a choice where there is one. */
async function listCameras(current) {
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === 'videoinput');
  const used = current.getVideoTracks()[0].getSettings().deviceId;
  $('cameras').replaceChildren(
    ...devices.map(({ label, deviceId }) => new Option(label, deviceId, false, deviceId === used)),
  );
  $('cameras').parentElement.hidden = devices.length < 2;
}

$('file').addEventListener('change', ({ target }) => target.files[0] && classifyFile(target.files[0]));
$('camera').addEventListener('click', () => (camera ? stopCamera() : startCamera()));
$('cameras').addEventListener('change', ({ target }) => startCamera(target.value));

addEventListener('paste', ({ clipboardData }) => {
  if (clipboardData.files[0]) classifyFile(clipboardData.files[0]);
  else say('The clipboard holds no image.');
});
addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('over');
});
addEventListener('dragleave', ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove('over');
});
addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('over');
  if (event.dataTransfer.files[0]) classifyFile(event.dataTransfer.files[0]);
});
