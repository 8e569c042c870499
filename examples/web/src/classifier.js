// Classifies images with onnxruntime-web. The model does its own preprocessing, because it was
// exported with --preprocess full.

import { readManifest } from "./manifest.js";

// Each runtime is imported only when it is selected: the one with WebGPU is larger.
const RUNTIMES = {
  wasm: () => import("onnxruntime-web/wasm"),
  webgpu: () => import("onnxruntime-web/webgpu"),
};

// Phones take photographs of this size (4032 x 3024). The model stores an image as float32, which
// takes 12 bytes per pixel, so larger images could exceed the memory of a browser tab.
const MAX_PIXELS = 13e6;

// An image is reduced by one of these factors before the model resizes it, if it then has at least
// MIN_RATIO times the size that it gets by resizing. The Python package has the same rule.
const REDUCTIONS = [8, 4, 2];
const MIN_RATIO = 2.25;

const MAX_THREADS = 4;

/**
 * A model that is ready to classify images.
 *
 * @property {object} manifest - The manifest of the model.
 * @property {number} threads - Threads of WebAssembly; 0 with WebGPU.
 * @property {number} loadMs - Milliseconds to download the model and to create the session.
 */
export class Classifier {
  /**
   * Downloads a model and creates a session for it.
   *
   * @param {string} url - Address of an .onnx file, relative to the page.
   * @param {"wasm" | "webgpu"} provider - The execution provider of onnxruntime-web.
   * @returns {Promise<Classifier>}
   * @throws {Error} The model is missing, or it is not a file that this page can run.
   */
  static async open(url, provider) {
    const startMs = performance.now();
    const response = await fetch(url);
    if (!response.ok) {
      const remedy = "this example's README has the command that makes it";
      throw new Error(`${url} was not found (${response.status}): ${remedy}`);
    }
    const bytes = new Uint8Array(await response.arrayBuffer());
    const manifest = readManifest(bytes, url);
    const ort = await RUNTIMES[provider]();
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = chooseThreadCount();
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
    await runOnce(ort, session, manifest);
    return Object.assign(new Classifier(), {
      ort,
      session,
      manifest,
      threads: provider === "wasm" ? ort.env.wasm.numThreads : 0,
      loadMs: performance.now() - startMs,
      lastRun: Promise.resolve(),
    });
  }

  /**
   * Classifies an image.
   *
   * @param {ImageData} image - The decoded image, of any size.
   * @param {number} topK - Number of predictions to return.
   * @returns {Promise<{predictions: {label: string, score: number}[], runMs: number}>} The most
   *   probable classes with their probabilities from 0 to 1, the most probable class first, and the
   *   time that it took in milliseconds.
   */
  async classify(image, topK = 5) {
    const startMs = performance.now();
    const { input, outputs, labels } = this.manifest;
    const shape = [1, image.height, image.width, 3];
    const tensor = new this.ort.Tensor("uint8", dropAlpha(image.data), shape);
    // A session accepts no second call while it runs, so every call waits for the one before it.
    this.lastRun = this.lastRun
      .catch(() => {})
      .then(() => this.session.run({ [input.name]: tensor }));
    const results = await this.lastRun;
    const scores = softmax(await results[outputs[0].name].getData());
    const predictions = scores.map((score, index) => ({ label: labels.names[index], score }));
    predictions.sort((left, right) => right.score - left.score);
    return { predictions: predictions.slice(0, topK), runMs: performance.now() - startMs };
  }

  /** Waits for the last call of `classify`, and releases the session. */
  async close() {
    await this.lastRun.catch(() => {});
    await this.session.release();
  }
}

/**
 * Decodes an image as the Python package does: with its EXIF orientation, and without a conversion
 * of its colors.
 *
 * @param {Blob | HTMLVideoElement} source - An image file, or a video whose frame is shown.
 * @param {string} name - Name of the image, for error messages.
 * @returns {Promise<ImageBitmap>}
 * @throws {Error} The browser cannot decode the source.
 */
export async function decodeImage(source, name) {
  try {
    return await createImageBitmap(source, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(
      `${name} is not an image that this browser can decode: choose a JPEG, PNG or WebP file`,
    );
  }
}

/**
 * Returns the pixels of a decoded image, with transparency blended over white. A large image is
 * reduced, because the model would take much longer to resize all of its pixels.
 *
 * @param {ImageBitmap} bitmap - The decoded image, which is closed.
 * @param {object} manifest - The manifest of the model that will classify the image.
 * @returns {{image: ImageData, isReduced: boolean}} The pixels, and whether they are fewer than
 *   those of the bitmap.
 */
export function readPixels(bitmap, manifest) {
  const scale = chooseScale(bitmap, manifest.preprocess.resize);
  const width = Math.floor(bitmap.width * scale);
  const height = Math.floor(bitmap.height * scale);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return { image: context.getImageData(0, 0, width, height), isReduced: scale < 1 };
}

/** Returns the factor, at most 1, by which an image is scaled before the model resizes it. */
function chooseScale({ width, height }, resize) {
  // `resize` is one number, or the height and the width.
  const smallestSide = MIN_RATIO * Math.max(...[resize].flat());
  const reduction = REDUCTIONS.find(
    (factor) =>
      width % factor === 0 &&
      height % factor === 0 &&
      Math.min(width, height) / factor >= smallestSide,
  );
  return reduction ? 1 / reduction : Math.min(1, Math.sqrt(MAX_PIXELS / (width * height)));
}

/**
 * Classifies a black image. The first run of a session takes several times as long as the others,
 * so it is made before an image is chosen.
 */
async function runOnce(ort, session, { img_size: size, input }) {
  // The side of a square, or the height and the width.
  const [height, width = height] = [size].flat();
  const pixels = new Uint8Array(height * width * 3);
  await session.run({ [input.name]: new ort.Tensor("uint8", pixels, [1, height, width, 3]) });
}

/** Returns the number of WebAssembly threads. Only a page isolated by headers may have several. */
function chooseThreadCount() {
  if (!self.crossOriginIsolated) return 1;
  return Math.min(MAX_THREADS, navigator.hardwareConcurrency || 1);
}

/** Converts RGBA pixels to RGB. */
function dropAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}

/** Converts logits to probabilities. */
function softmax(logits) {
  const largest = logits.reduce((left, right) => Math.max(left, right));
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((left, right) => left + right);
  return powers.map((power) => power / sum);
}
