"""Sensitivity: the error that int8 causes in each unit of a network (`record.sensitivity`).

`measure` computes the figures for any network whose units can be returned to float32 one by one.
For an .onnx artifact, this is the artifact's own graph in onnxruntime (`onnx_network`). The search
for an int8 network within an accuracy budget computes the same figures in PyTorch
(`tinyvit.quant.sensitivity`).
"""
