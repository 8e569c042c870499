// A picture in, labels out: the file does the preprocessing (it was exported with --preprocess full), onnxruntime-web runs it.

import { manifestOf } from "./artifact.js";

// Apart, so that a phone without WebGPU does not load its larger runtime.
const RUNTIMES = {
  wasm: () => import("onnxruntime-web/wasm"),
  webgpu: () => import("onnxruntime-web/webgpu"),
};

const MAX_PIXELS = 13e6; // as phones take them (4032 x 3024); the graph holds a picture as float32: 12 bytes a pixel

/** An open file. Times are in milliseconds. */
export class Classifier {
  static async open(url, name, provider) {
    const start = performance.now();
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${name} is not there (${answer.status}): see this example's README for the command that makes it`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const manifest = manifestOf(bytes, name);
    const ort = await RUNTIMES[provider]();
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
    const opened = Object.assign(new Classifier(), { ort, session, manifest, running: Promise.resolve() });
    opened.threads = provider === "wasm" ? ort.env.wasm.numThreads : 0;
    opened.loadMs = performance.now() - start;
    return opened;
  }

  /** pixels: ImageData. Returns {classes: [{label, score}], best first, runMs}; score is the softmax's, 0 to 1. */
  async classify(pixels, topK = 5) {
    const start = performance.now();
    const { data, width, height } = pixels;
    const rgb = new Uint8Array(width * height * 3);
    for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
      rgb[to] = data[from];
      rgb[to + 1] = data[from + 1];
      rgb[to + 2] = data[from + 2];
    }
    const { input, output, labels } = this.manifest;
    const given = new this.ort.Tensor("uint8", rgb, [1, height, width, 3]);
    // One at a time: a session does not take a second call while the first is on its way.
    this.running = this.running.catch(() => {}).then(() => this.session.run({ [input.name]: given }));
    const scores = softmax(await (await this.running)[output.name].getData());
    const classes = scores.map((score, i) => ({ label: labels.names[i], score }));
    classes.sort((a, b) => b.score - a.score);
    return { classes: classes.slice(0, topK), runMs: performance.now() - start };
  }

  /** Once what runs is done. */
  async close() {
    await this.running.catch(() => {});
    await this.session.release();
  }
}

/** A file, or a frame of a video, as ImageData: turned as EXIF says, on white, and in the file's own colors, as Python's side does. */
export async function decode(source, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(source, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${name} is not a picture that this browser reads: give a JPEG, PNG or WebP`);
  }
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height)));
  const [width, height] = [Math.floor(bitmap.width * scale), Math.floor(bitmap.height * scale)];
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return Object.assign(context.getImageData(0, 0, width, height), { scaled: scale < 1 });
}

/** Logits as probabilities. */
function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / sum);
}
