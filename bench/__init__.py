"""Measures the latency and the accuracy of artifacts (exported model files).

Artifacts of other tools can be measured too, such as an ONNX file by `torch.onnx.export`.
"""
