// WebAssembly has threads only on a page that is isolated from other origins. Any other server of
// dist/ must send these two headers too.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default {
  appType: "mpa", // A missing model is then a 404 and not the page again.
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 0 },
  optimizeDeps: { exclude: ["onnxruntime-web"] }, // It finds its .wasm beside its .mjs.
  server: { headers, fs: { allow: [".."] } },
  preview: { headers },
};
