/** The page: an image from a file, a drop, the clipboard or the camera, and its five best labels. */
import { Classifier } from './classifier.js';

const $ = (id) => document.getElementById(id);
const picture = $('picture');
const pixels = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
const percent = new Intl.NumberFormat(undefined, { style: 'percent', minimumFractionDigits: 1 });

const model = Classifier.load(undefined, (share) => say(`Loading the model: ${percent.format(share)}`));
model.then(() => say('Ready. Choose an image.'), (error) => fail('The model could not be loaded', error));

/** What a screen reader announces too; unchanged text is not announced again. */
function say(text) {
  if ($('status').textContent !== text) $('status').textContent = text;
}

function fail(what, error) {
  console.error(error);
  say(`${what}: ${error.message}`);
  $('result').replaceChildren();
}

/** Classify anything that a canvas can draw, and show it. */
async function classify(source, width, height) {
  if (!(width > 0 && height > 0)) throw new RangeError('it has no pixels');
  Object.assign(pixels.canvas, { width, height });
  pixels.fillRect(0, 0, width, height); // transparent parts lie on black, as in training
  pixels.drawImage(source, 0, 0);
  const classifier = await model;
  show(await classifier.classify(pixels.getImageData(0, 0, width, height)));
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
  say('Looking …');
  try {
    const bitmap = await createImageBitmap(file); // the right way up, whatever EXIF says
    Object.assign(picture, { width: bitmap.width, height: bitmap.height });
    picture.getContext('bitmaprenderer').transferFromImageBitmap(await createImageBitmap(bitmap));
    picture.classList.toggle('tiny', bitmap.width < 200); // show its pixels, not a blur
    document.body.dataset.shows = 'picture';
    await classify(bitmap, bitmap.width, bitmap.height);
    bitmap.close();
  } catch (error) {
    fail(`${file.name || 'That'} is not an image that this browser can read`, error);
  }
}

let camera; // the stream while it is on
let wish = 0; // counts what was asked of the camera: an answer to an earlier wish is dropped

async function startCamera(deviceId) {
  stopCamera();
  const mine = wish;
  try {
    const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'environment' };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    if (mine !== wish) return stop(stream);
    camera = stream;
    await watch(stream, () => mine === wish);
  } catch (error) {
    if (mine !== wish) return;
    stopCamera();
    fail('The camera could not be used', error);
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
    await classify(video, video.videoWidth, video.videoHeight);
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
