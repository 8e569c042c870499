import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

// The page must not ask the server for a model that does not exist, which would log an error.
const int8File = fileURLToPath(new URL("public/model.int8.onnx", import.meta.url));

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
  define: { __HAS_INT8_MODEL__: JSON.stringify(existsSync(int8File)) },
  build: { target: "es2022", assetsInlineLimit: 0 },
  // The package must keep its .wasm file beside its .mjs file.
  optimizeDeps: { exclude: ["onnxruntime-web"] },
  server: { headers, fs: { allow: [".."] } },
  preview: { headers },
};
