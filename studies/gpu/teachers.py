"""Makes teachers with random weights, which take the same time as trained ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from tinyvit.distill.training.batches.data_loader import BatchPredictions, TrainingBatch
from tinyvit.distill.training.device import ComputeDevice, select_device
from tinyvit.distill.training.network.student import make_student
from tinyvit.nn.timm_models import import_timm
from tinyvit.preprocess import Preprocess, timm_preprocess

_NUM_CLASSES = 1000


def make_tinyvit_21m(num_classes: int = _NUM_CLASSES) -> nn.Module:
    """Make a TinyViT-21M for 224 pixels.

    Args:
        num_classes: Number of classes.
    """
    return _make_tinyvit("tiny_vit_21m_224", num_classes, size=224)


def make_small_tinyvit(num_classes: int = _NUM_CLASSES) -> nn.Module:
    """Make a TinyViT-5M for 64 pixels, which is small enough for tests.

    Args:
        num_classes: Number of classes.
    """
    return _make_tinyvit("tiny_vit_5m_224", num_classes, size=64)


def make_clip_vit_large(num_classes: int = _NUM_CLASSES) -> nn.Module:
    """Make timm's CLIP ViT-L/14 for 224 pixels, the architecture of the paper's teacher.

    Args:
        num_classes: Number of classes.
    """
    timm = import_timm()
    torch.manual_seed(0)
    # The random weights are drawn on the GPU, because the CPU takes 15 seconds.
    with torch.device(select_device().name):
        model: nn.Module = timm.create_model(
            "vit_large_patch14_clip_224", pretrained=False, num_classes=num_classes
        )
    return model


BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "tiny_vit_21m_224": make_tinyvit_21m,
    "vit_large_patch14_clip_224": make_clip_vit_large,
    "tiny_vit_5m_64px": make_small_tinyvit,
}
"""Name of a teacher in the record -> function that makes the teacher for a number of classes."""


def command_line_name(name: str) -> str:
    """Return the name with which `save-logits --teacher` opens a teacher of `BUILDERS`.

    Args:
        name: Name of the teacher in `BUILDERS`.
    """
    function = BUILDERS[name]
    return f"{function.__module__}:{function.__name__}"


def _make_tinyvit(variant: str, num_classes: int, size: int) -> nn.Module:
    student = make_student(
        variant, init=None, labels=None, num_classes=num_classes, size=size, seed=0
    )
    # save-logits reads this attribute, see tinyvit.distill.logits.function_teachers.
    student.model.preprocess = student.preprocess  # type: ignore[assignment]
    return student.model


class DeviceTeacher:
    """A teacher that predicts in each step of a training, and whose data stays on the device.

    `tinyvit.distill.logits.module_teachers.Teacher` normalizes images and computes probabilities
    on the CPU, which would make the steps slower than they have to be.
    """

    def __init__(self, name: str, num_classes: int, top_k: int, device: ComputeDevice) -> None:
        """Place a teacher on the device.

        Args:
            name: Name of the teacher in `BUILDERS`.
            num_classes: Number of classes.
            top_k: Number K of classes to return.
            device: The device and its precision.
        """
        module = BUILDERS[name](num_classes).eval().requires_grad_(False)
        self._device, self._top_k = device, top_k
        self._module = device.move_module(module)
        preprocess = getattr(module, "preprocess", None)
        if not isinstance(preprocess, Preprocess):
            preprocess = timm_preprocess(224)
        scale, shift = preprocess.scale_and_shift()
        self._scale = torch.from_numpy(scale).to(device.name)
        self._shift = torch.from_numpy(shift).to(device.name)

    def move(self, device: str) -> None:
        """Move the weights. On the CPU, they do not count in a measurement of the GPU's memory.

        Args:
            device: "cuda" or "cpu".
        """
        self._module.to(device)

    def predict(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the K most probable classes.

        Args:
            pixels: Views on the device, uint8 (B, S, S, 3).

        Returns:
            Class indices, int64 (B, K), and their probabilities, float32 (B, K).
        """
        with torch.inference_mode(), self._device.autocast():
            images = (pixels * self._scale - self._shift).permute(0, 3, 1, 2)
            probabilities = self._module(images).float().softmax(1)
            top = probabilities.topk(self._top_k, dim=1)
        return top.indices, top.values

    def add_outputs(self, batch: TrainingBatch) -> TrainingBatch:
        """Return a batch with the teacher's outputs.

        Args:
            batch: A batch whose views are on the device.
        """
        classes, probabilities = self.predict(batch.pixels)
        # Autograd cannot save tensors of inference mode for the backward pass.
        return replace(batch, teacher=BatchPredictions(classes.clone(), probabilities.clone()))
