"""Measures training, latency and logits storing on a machine with an NVIDIA GPU.

    python -m tinyvit.studies.gpu --out FILE.json

The machine needs torch with CUDA, numpy, Pillow, safetensors and timm, but neither an installation
of this project nor a package registry: `PYTHONPATH=src` is enough. All parts together take less
than 8 minutes. The record is written after every row, so that an interruption loses nothing.

    losses      training losses on the GPU equal those on the CPU
    steps       time and peak memory of a training step whose images are already on the GPU
    latency     latency of all variants in eager PyTorch
    compiled    the same after torch.compile, as far as the time allows
    storing     images per second of `save-logits`, and of each of its steps
    loops       images per second of training loops that decode JPEG files
"""
