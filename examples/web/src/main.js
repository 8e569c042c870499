// The page: a picture dropped, pasted, chosen or from the camera -> labels with bars, and what each stage took.

import catUrl from "../../images/cat.jpg?url";
import coffeeUrl from "../../images/coffee.jpg?url";
import { Classifier, decode } from "./classifier.js";

const FILES = { float32: "model.onnx", int8: "model.int8.onnx" };
const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

let classifier; // a promise of the open file
let last; // the picture that was given last: {source, name}, which answers are for
let stopCamera;

function open() {
  const [precision, provider] = [chosen("precision"), chosen("provider")];
  const before = classifier;
  say(`Loading ${FILES[precision]} …`);
  const mine = (classifier = Classifier.open(FILES[precision], FILES[precision], provider));
  mine.then(
    (opened) => {
      if (mine !== classifier) return; // another was chosen meanwhile
      const { model, precision: weights, img_size: size, license } = opened.manifest;
      const engine = opened.threads ? `WebAssembly, ${opened.threads} ${opened.threads > 1 ? "threads" : "thread"}` : "WebGPU";
      say(`${model}, ${size} pixels, ${weights}, license ${license}. ${engine}, loaded in ${opened.loadMs.toFixed(0)} ms.`);
    },
    (error) => mine === classifier && say(error.message, true),
  );
  before?.then((old) => old.close(), () => {});
  return mine;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

async function show(source, name) {
  const asked = (last = { source, name });
  try {
    const start = performance.now();
    const pixels = await decode(source, name);
    const decodeMs = performance.now() - start;
    if (asked !== last) return; // another picture came meanwhile
    if (source instanceof Blob) preview(source, name);
    const { classes, runMs } = await (await classifier).classify(pixels);
    if (asked !== last) return;
    $("results").replaceChildren(...classes.map(row));
    const scaled = pixels.scaled ? `, made ${pixels.width} × ${pixels.height} first` : "";
    $("times").textContent = `decoded${scaled}: ${decodeMs.toFixed(0)} ms · resize and network: ${runMs.toFixed(0)} ms`;
    $("answer").hidden = false;
    if ($("status").classList.contains("error")) say("");
  } catch (error) {
    if (asked !== last) return;
    $("answer").hidden = true;
    say(error.message, true);
  }
}

function preview(blob, name) {
  URL.revokeObjectURL($("picture").src);
  $("picture").src = URL.createObjectURL(blob);
  $("picture").alt = name;
  $("picture").hidden = false;
}

function row({ label, score }) {
  const item = document.createElement("li");
  const [name, percent, bar] = ["span", "span", "div"].map((tag) => item.appendChild(document.createElement(tag)));
  name.textContent = label;
  percent.textContent = `${(100 * score).toFixed(1)}%`;
  bar.style.setProperty("--share", score);
  item.dataset.score = score;
  return item;
}

async function camera() {
  if (stopCamera) return stopCamera();
  const video = $("video");
  $("camera").disabled = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return say("The camera cannot be used: allow it for this page, or drop a picture", true);
  } finally {
    $("camera").disabled = false;
  }
  await video.play();
  let running = true;
  stopCamera = () => {
    running = false;
    stopCamera = last = undefined;
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.hidden = true;
    $("answer").ariaLive = "polite";
    $("camera").textContent = "Use the camera";
  };
  [video.hidden, $("picture").hidden] = [false, true];
  $("answer").ariaLive = "off"; // a screen reader would never come to an end
  $("camera").textContent = "Stop the camera";
  while (running) {
    await new Promise((next) => video.requestVideoFrameCallback(next)); // the newest frame: none waits in a queue
    if (running) await show(video, "the camera");
  }
}

function take(file) {
  if (!file) return;
  stopCamera?.();
  show(file, file.name);
}

async function start() {
  $("file").addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  $("camera").addEventListener("click", camera);
  document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  for (const input of document.querySelectorAll("input[type=radio]")) {
    input.addEventListener("change", () => open().then(() => last && !stopCamera && show(last.source, last.name), () => {}));
  }
  for (const [id, url] of [["cat", catUrl], ["coffee", coffeeUrl]]) {
    $(id).querySelector("img").src = url;
    $(id).addEventListener("click", async () => take(new File([await (await fetch(url)).blob()], `${id}.jpg`)));
  }
  open();
  $("int8").disabled = !(await fetch(FILES.int8, { method: "HEAD" })).ok;
  $("webgpu").disabled = !(await navigator.gpu?.requestAdapter());
}

start();
