// What tinyvit-export wrote into an ONNX file beside the network: labels, preprocessing, provenance.
// onnxruntime-web does not hand a model's metadata out, so it is read from the file: protobuf, ModelProto.metadata_props
// (field 14), each entry a key (1) and a value (2). See onnx/onnx.proto.

const METADATA = 14;
const KEY = "tinyvit";

/** The manifest in the bytes of a file. Throws an Error with a cause and a remedy. */
export function manifestOf(bytes, name) {
  const remedy = "make it with: tinyvit-export --preprocess full";
  let text;
  try {
    for (const entry of fields(bytes, METADATA)) {
      const [key] = fields(entry, 1);
      if (key && utf8(key) === KEY) text = utf8([...fields(entry, 2)][0]);
    }
  } catch {
    throw new Error(`${name} is not an ONNX file: ${remedy}`);
  }
  if (!text) throw new Error(`${name} has no manifest: ${remedy}`);
  const manifest = JSON.parse(text);
  if (manifest.stage !== "full") {
    throw new Error(`${name} leaves resizing to its caller (--preprocess ${manifest.stage}): ${remedy}`);
  }
  return manifest;
}

/** The length-delimited values of one field of a message. */
function* fields(bytes, wanted) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; factor < 2 ** 56; factor *= 128) {
      if (at >= bytes.length) break;
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new RangeError("no number");
  };
  while (at < bytes.length) {
    const tag = varint();
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new RangeError("cut off");
      if (field === wanted) yield bytes.subarray(at, at + length);
      at += length;
    } else throw new RangeError("no protobuf");
  }
}

const utf8 = (bytes) => new TextDecoder().decode(bytes);
