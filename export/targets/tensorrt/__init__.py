"""TensorRT engines for NVIDIA's GPUs."""
