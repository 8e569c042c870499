"""Passes on the ONNX graph that several targets share."""
