"""The ORT target: onnxruntime's mobile format."""
