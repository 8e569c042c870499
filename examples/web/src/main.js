// The page: an image that is dropped, pasted, chosen or captured is classified, and the predictions
// are shown with the time that each step took.

import catUrl from "../../images/cat.jpg?url";
import coffeeUrl from "../../images/coffee.jpg?url";
import { Classifier, decodeImage, readPixels } from "./classifier.js";
import { escapeText } from "./text.js";

const MODEL_FILES = { float32: "model.onnx", int8: "model.int8.onnx" };
const DEMO_MODEL = "demo";
const MAX_LISTED_CLASSES = 20;
const SAMPLES = { cat: catUrl, coffee: coffeeUrl };

const byId = (id) => document.getElementById(id);

/** The selected model: a promise of a Classifier. */
let currentClassifier;

/** The newest request, {source, name}. Predictions of older requests are not shown. */
let currentRequest;

/** Stops the camera; undefined while it is off. */
let stopCamera;

/** Returns the value of the checked radio button of a group. */
function selectedValue(group) {
  return document.querySelector(`input[name=${group}]:checked`).value;
}

function showStatus(text, isError = false) {
  byId("status").textContent = escapeText(text);
  byId("status").classList.toggle("error", isError);
}

/** Opens the selected model with the selected provider, and closes the previous model. */
function openClassifier() {
  const file = MODEL_FILES[selectedValue("precision")];
  const previousClassifier = currentClassifier;
  showStatus(`Loading ${file} …`);
  const opening = Classifier.open(file, selectedValue("provider"));
  currentClassifier = opening;
  opening.then(
    (classifier) => {
      if (opening === currentClassifier) showStatus(describeClassifier(classifier));
    },
    (error) => {
      if (opening === currentClassifier) showStatus(error.message, true);
    },
  );
  previousClassifier?.then((classifier) => classifier.close(), () => {});
  return opening;
}

function describeClassifier({ manifest, threads, loadMs }) {
  const { model, precision, license } = manifest;
  // The side of a square, or [height, width].
  const size = [manifest.img_size].flat().join(" x ");
  const threadText = `${threads} ${threads === 1 ? "thread" : "threads"}`;
  const engine = threads ? `WebAssembly with ${threadText}` : "WebGPU";
  return (
    `${model}, ${size} pixels, ${precision}, license ${license}. ` +
    `It runs in ${engine}, and loading took ${loadMs.toFixed(0)} ms. ${describeClasses(manifest)}`
  );
}

/** Returns a sentence about what the model can recognize, and that the demo is only a demo. */
function describeClasses({ model, labels: { names } }) {
  const list = names.length <= MAX_LISTED_CLASSES ? `: ${names.join(", ")}` : "";
  if (model !== DEMO_MODEL) return `It knows ${names.length} classes${list}.`;
  return (
    "This is the demo model of tinyvit-edge, for trying it out. " +
    `It knows only ${names.length} classes${list}. Images of anything else get a wrong label.`
  );
}

/** Classifies an image file or the frame of a video, and shows the predictions. */
async function classifyAndShow(source, name) {
  const request = { source, name };
  currentRequest = request;
  let bitmap;
  try {
    const startMs = performance.now();
    bitmap = await decodeImage(source, name);
    const bitmapMs = performance.now() - startMs;
    if (request !== currentRequest) return bitmap.close();
    if (source instanceof Blob) showImage(source, name);
    const opening = currentClassifier;
    const classifier = await opening;
    const pixelsStartMs = performance.now();
    const { image, isReduced } = readPixels(bitmap, classifier.manifest);
    const decodeMs = bitmapMs + performance.now() - pixelsStartMs;
    const { predictions, runMs } = await classifier.classify(image);
    if (request !== currentRequest) return;
    const decoding = isReduced
      ? `Decoding, and reducing to ${image.width} × ${image.height}`
      : "Decoding";
    byId("prediction-list").replaceChildren(...predictions.map(makePredictionItem));
    byId("timings").textContent =
      `${decoding}: ${decodeMs.toFixed(0)} ms · Resizing and network: ${runMs.toFixed(0)} ms`;
    byId("predictions").hidden = false;
    // The description of the model returns in place of an earlier error.
    const hasError = byId("status").classList.contains("error");
    if (hasError && opening === currentClassifier) showStatus(describeClassifier(classifier));
  } catch (error) {
    if (request !== currentRequest) return;
    byId("predictions").hidden = true;
    if (!bitmap) byId("image").hidden = true; // It is the previous image.
    showStatus(error.message, true);
    // A model that is loaded after this describes itself in place of the error.
    currentClassifier.then(
      () => {
        if (request === currentRequest) showStatus(error.message, true);
      },
      () => {},
    );
  }
}

function showImage(blob, name) {
  const image = byId("image");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  image.alt = name;
  image.hidden = false;
}

/** Makes the list item of a prediction: the label, the percentage, and a bar. */
function makePredictionItem({ label, score }) {
  const item = document.createElement("li");
  const [name, percentage, bar] = ["span", "span", "div"].map((tag) =>
    item.appendChild(document.createElement(tag)),
  );
  name.textContent = escapeText(label);
  percentage.textContent = `${(100 * score).toFixed(1)}%`;
  bar.style.setProperty("--share", score);
  item.dataset.score = score;
  return item;
}

/** Starts the camera and classifies its frames, or stops the camera if it is on. */
async function toggleCamera() {
  if (stopCamera) return stopCamera();
  const video = byId("video");
  const button = byId("camera");
  button.disabled = true;
  try {
    const constraints = { video: { facingMode: "environment" } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(constraints);
  } catch {
    const message = "The camera cannot be used: allow it for this page, or choose an image";
    return showStatus(message, true);
  } finally {
    button.disabled = false;
  }
  await video.play();
  let isRunning = true;
  stopCamera = () => {
    isRunning = false;
    stopCamera = undefined;
    currentRequest = undefined;
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.hidden = true;
    byId("predictions").ariaLive = "polite";
    button.textContent = "Use the camera";
  };
  video.hidden = false;
  byId("image").hidden = true;
  // A screen reader cannot keep up with the predictions of every frame.
  byId("predictions").ariaLive = "off";
  button.textContent = "Stop the camera";
  while (isRunning) {
    // This waits for the newest frame. Frames that came during a classification are skipped.
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    if (isRunning) await classifyAndShow(video, "the camera");
  }
}

/** Stops the camera and classifies a file, if the user gave one. */
function useFile(file) {
  if (!file) return;
  stopCamera?.();
  classifyAndShow(file, file.name);
}

async function useSample(id, url) {
  const response = await fetch(url);
  useFile(new File([await response.blob()], `${id}.jpg`));
}

/** Opens the newly selected model, and classifies the last image again. */
async function changeClassifier() {
  try {
    await openClassifier();
  } catch {
    return; // openClassifier shows the error.
  }
  if (currentRequest && !stopCamera) {
    classifyAndShow(currentRequest.source, currentRequest.name);
  }
}

function addListeners() {
  byId("file").addEventListener("change", (event) => {
    useFile(event.target.files[0]);
    event.target.value = ""; // Otherwise, choosing the same file again is no change.
  });
  byId("camera").addEventListener("click", toggleCamera);
  document.addEventListener("paste", (event) => useFile(event.clipboardData.files[0]));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    useFile(event.dataTransfer.files[0]);
  });
  for (const input of document.querySelectorAll("input[type=radio]")) {
    input.addEventListener("change", changeClassifier);
  }
  for (const [id, url] of Object.entries(SAMPLES)) {
    byId(id).querySelector("img").src = url;
    byId(id).addEventListener("click", () => useSample(id, url));
  }
}

async function start() {
  addListeners();
  openClassifier();
  byId("int8").disabled = !__HAS_INT8_MODEL__; // vite.config.js defines it.
  byId("webgpu").disabled = !(await navigator.gpu?.requestAdapter());
}

start();
