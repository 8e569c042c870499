"""Files in ORT format, which onnxruntime's mobile builds open."""
