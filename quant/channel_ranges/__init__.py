"""Changes of a network after which the channels of quantized tensors have similar ranges."""
