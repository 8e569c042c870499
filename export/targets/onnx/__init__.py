"""ONNX files for onnxruntime and every other reader of the format."""
