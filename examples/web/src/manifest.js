// Reads the manifest that tinyvit-export stores in an ONNX file: labels, preprocessing, provenance.
//
// onnxruntime-web does not return a model's metadata, so this module reads the protobuf message:
// the field ModelProto.metadata_props, whose entries have a key and a value (onnx/onnx.proto).

const METADATA_PROPS_FIELD = 14;
const KEY_FIELD = 1;
const VALUE_FIELD = 2;
const MANIFEST_KEY = "tinyvit";

// How protobuf encodes the value of a field (https://protobuf.dev/programming-guides/encoding/).
const WIRE_TYPE_VARINT = 0;
const WIRE_TYPE_64_BIT = 1;
const WIRE_TYPE_LENGTH_DELIMITED = 2;
const WIRE_TYPE_32_BIT = 5;

const REMEDY = "make it with: tinyvit-export --preprocess full";

/**
 * Reads the manifest from the bytes of an ONNX file.
 *
 * @param {Uint8Array} bytes - The content of the file.
 * @param {string} name - Name of the file, for error messages.
 * @returns {object} The manifest, as tinyvit-export wrote it.
 * @throws {Error} The file is not an ONNX file, has no manifest, leaves resizing to its caller, or
 *   is no classifier.
 */
export function readManifest(bytes, name) {
  let json;
  try {
    json = findMetadata(bytes, MANIFEST_KEY);
  } catch {
    throw new Error(`${name} is not an ONNX file: ${REMEDY}`);
  }
  if (!json) throw new Error(`${name} has no manifest: ${REMEDY}`);
  const manifest = JSON.parse(json);
  const preprocessing = manifest.embedded_preprocessing;
  if (preprocessing !== "full") {
    throw new Error(
      `${name} leaves resizing to its caller (--preprocess ${preprocessing}): ${REMEDY}`,
    );
  }
  if (!manifest.labels.names.length) {
    throw new Error(`${name} is no classifier: make it with: tinyvit-export --output logits`);
  }
  return manifest;
}

/** Returns the last metadata value with a key, or undefined. */
function findMetadata(bytes, wantedKey) {
  let value;
  for (const entry of readFields(bytes, METADATA_PROPS_FIELD)) {
    const [key] = readFields(entry, KEY_FIELD);
    if (key && decodeUtf8(key) === wantedKey) {
      value = decodeUtf8([...readFields(entry, VALUE_FIELD)][0]);
    }
  }
  return value;
}

/** Yields the values of a message's length-delimited field; throws if it is not protobuf. */
function* readFields(bytes, wantedField) {
  let position = 0;
  const readVarint = () => {
    let value = 0;
    // A multiplication instead of a shift: JavaScript shifts numbers of 32 bits only.
    for (let factor = 1; factor < 2 ** 56; factor *= 128) {
      if (position >= bytes.length) break;
      const byte = bytes[position++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new RangeError("a number is cut off or too long");
  };
  while (position < bytes.length) {
    const tag = readVarint();
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (wireType === WIRE_TYPE_VARINT) readVarint();
    else if (wireType === WIRE_TYPE_64_BIT) position += 8;
    else if (wireType === WIRE_TYPE_32_BIT) position += 4;
    else if (wireType === WIRE_TYPE_LENGTH_DELIMITED) {
      const length = readVarint();
      if (position + length > bytes.length) throw new RangeError("a value is cut off");
      if (field === wantedField) yield bytes.subarray(position, position + length);
      position += length;
    } else throw new RangeError("the wire type is unknown");
  }
}

const decodeUtf8 = (bytes) => new TextDecoder().decode(bytes);
