"""Measures training, latency and logits storing on a machine with an NVIDIA GPU.

    python -m tinyvit.studies.gpu --out FILE.json

The machine needs torch with CUDA, numpy, Pillow, safetensors and timm, but neither an installation
of this project nor a package registry: `PYTHONPATH=src` is enough. All parts together take less
than 8 minutes. The record (FILE.json) is written again after every measurement, so that an
interruption loses only the measurement that is running.

    losses      training losses on the GPU equal those on the CPU
    steps       time and peak memory of a training step whose images are already on the GPU
    latency     latency of all variants in eager PyTorch
    compiled    latency of all variants after torch.compile, as far as the time allows
    storing     images per second of `save-logits`, and of each of its steps
    loops       images per second of training loops that decode JPEG files
"""
