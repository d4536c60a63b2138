/**
 * @typedef {object} Image  Pixels row by row, channels interleaved; an ImageData is one.
 * @property {Uint8Array | Uint8ClampedArray} data  height × width × channels bytes
 * @property {number} width
 * @property {number} height
 */

/**
 * An image with the channels the model takes: 1 to 4 (grey, grey + alpha, RGB, RGBA) become 1 or 3.
 * What is transparent lies on black.
 *
 * @param {Image} image
 * @param {number} channels  1 or 3
 * @returns {Uint8Array} height × width × channels bytes
 */
export function toChannels({ data, width, height }, channels) {
  const given = channelsOf(data, width, height);
  const colours = given < 3 ? 1 : 3;
  const hasAlpha = given % 2 === 0;
  if (given === channels) return new Uint8Array(data.buffer, data.byteOffset, data.length);

  const pixels = new Uint8Array(width * height * channels);
  const rgb = [0, 0, 0];
  for (let from = 0, to = 0; from < data.length; from += given, to += channels) {
    const alpha = hasAlpha ? data[from + colours] : 255;
    for (let i = 0; i < 3; i++) {
      const value = data[colours === 1 ? from : from + i];
      rgb[i] = alpha === 255 ? value : ((value * alpha + 127) / 255) | 0;
    }
    if (channels === 3) {
      for (let i = 0; i < 3; i++) pixels[to + i] = rgb[i];
    } else {
      pixels[to] = colours === 1 ? rgb[0] : luma(rgb);
    }
  }
  return pixels;
}

/** ITU-R 601-2 in 16-bit fixed point. */
function luma([red, green, blue]) {
  return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >>> 16;
}

function requireBytes(data) {
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw new TypeError('pixels must be 8-bit: give a Uint8Array (of 16 bits divide by 257)');
  }
}

function channelsOf(data, width, height) {
  requireBytes(data);
  const channels = data.length / (width * height);
  if (!(width > 0 && height > 0 && [1, 2, 3, 4].includes(channels))) {
    throw new RangeError(`${data.length} bytes are no ${width}×${height} image of 1 to 4 channels`);
  }
  return channels;
}

/** Throws when `pixels` are no batch of the size `dims`, [N, H, W, C], with a model's channels. */
export function requireBatch(pixels, dims, channels) {
  requireBytes(pixels);
  const fits = dims.length === 4 && dims[3] === channels && dims.every((side) => side > 0);
  if (!fits || dims.reduce((product, side) => product * side) !== pixels.length) {
    const wanted = `[N, H, W, ${channels}] with at least one pixel`;
    throw new RangeError(`${pixels.length} bytes as [${dims}]; give ${wanted}`);
  }
}

/** Throws when a session's model has not as many classes as there are labels. */
export function requireOwnLabels(labels, session) {
  const classes = session.outputMetadata[0].shape[1];
  if (labels.length !== classes) {
    throw new Error(`${labels.length} labels for ${classes} classes: labels.json is not this model's`);
  }
}

/**
 * The most probable labels, best first.
 *
 * @param {Float32Array} probabilities
 * @param {string[]} labels
 * @param {number} top  1 or more
 * @returns {[label: string, score: number][]}
 */
export function best(probabilities, labels, top) {
  if (!(top >= 1)) throw new RangeError(`top is ${top}; give 1 or more`);
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  return order.slice(0, top).map((i) => [labels[i], probabilities[i]]);
}

/** Throws when a runtime's version, such as "1.30.0", is below `oldest`, such as "1.22". */
export function refuseOldRuntime(name, version, oldest) {
  const [major, minor] = (version ?? '0.0').split('.').map(Number);
  const [oldMajor, oldMinor] = oldest.split('.').map(Number);
  if (major < oldMajor || (major === oldMajor && minor < oldMinor)) {
    throw new Error(`${name} ${version ?? ''} is too old for this model: use ${oldest} or newer`);
  }
}
