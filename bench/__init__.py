"""Measures the latency and the accuracy of artifacts (exported model files).

Model files that other tools exported can be measured too, such as an ONNX file from
`torch.onnx.export`.
"""
