// Threads in WebAssembly need a page of its own origin: whatever serves dist/ must send these two headers too.
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default {
  appType: "mpa", // a missing model is a 404, not the page again
  base: "./",
  build: { target: "es2022", assetsInlineLimit: 0 },
  optimizeDeps: { exclude: ["onnxruntime-web"] }, // its .wasm lies beside its .mjs
  server: { headers, fs: { allow: [".."] } },
  preview: { headers },
};
