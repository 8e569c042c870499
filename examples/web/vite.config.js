// WebAssembly has threads only on a page that is isolated from other origins, which these two
// headers request. Any other server of dist/ must send them too.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default {
  // With "mpa", the server answers 404 for a missing model, instead of sending the page.
  appType: "mpa",
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 0 },
  // The package must keep its .wasm file beside its .mjs file.
  optimizeDeps: { exclude: ["onnxruntime-web"] },
  server: { headers, fs: { allow: [".."] } },
  preview: { headers },
};
