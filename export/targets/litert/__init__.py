"""LiteRT (TensorFlow Lite) files for mobile CPUs."""
