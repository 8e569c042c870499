"""Makes teachers from PyTorch modules, such as TinyViT checkpoints and timm models.

A teacher is a network whose class probabilities a student learns from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit.distill.logits.header import TeacherInfo
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.errors import RequestError
from tinyvit.labels import Label, imagenet_labels
from tinyvit.nn.timm_models import import_timm
from tinyvit.preprocess import Preprocess, timm_preprocess

_MAX_REASON_LENGTH = 200
"""Number of characters of timm's error message that are shown."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Teacher:
    """A network whose class probabilities a student learns from.

    Attributes:
        name: The text that selected the teacher on the command line; for a file, only its name.
        sha256: Hex SHA-256 of the teacher's weights or file.
        num_classes: Number of classes.
        labels: One label for each class; None if they are not known.
        preprocess: The preprocessing that the teacher was trained with. Only its mean, standard
            deviation and size are used, because views replace resizing and cropping.
        compute_logits: Function that takes normalized images, float32 (B, 3, S, S), and returns
            logits, float32 (B, num_classes).
        has_fixed_size: Whether it is known that the teacher only runs at `preprocess.size`.
    """

    name: str
    sha256: str
    num_classes: int
    labels: tuple[Label, ...] | None
    preprocess: Preprocess
    compute_logits: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    has_fixed_size: bool

    @property
    def info(self) -> TeacherInfo:
        """Return the teacher's entry in the header of a store."""
        return TeacherInfo(self.name, self.sha256)

    def accepts_size(self, size: int) -> bool:
        """Return whether the teacher runs at an image size.

        If that is not known, the teacher is run on one blank image of this size.

        Args:
            size: Width and height of the images in pixels.
        """
        if size == self.preprocess.size or self.has_fixed_size:
            return size == self.preprocess.size
        try:
            logits = self.compute_logits(np.zeros((1, 3, size, size), np.float32))
        except Exception:  # a user's module may raise any exception
            return False
        return logits.shape == (1, self.num_classes)

    def predict_probabilities(self, pixels: Pixels) -> npt.NDArray[np.float64]:
        """Compute the class probabilities of views.

        Args:
            pixels: The views, uint8 (B, S, S, 3), RGB.

        Returns:
            Softmax probabilities, float64 (B, num_classes).
        """
        logits = self.compute_logits(self.preprocess.normalize(pixels)).astype(np.float64)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


@dataclass(frozen=True)
class ModuleDescription:
    """The fields of a `Teacher` that cannot be found by running its module.

    Attributes:
        name: The text that selected the teacher on the command line; for a file, only its name.
        sha256: Hex SHA-256 of the weights or file.
        labels: One label for each class; None if they are not known.
        preprocess: The preprocessing that the module was trained with.
        has_fixed_size: Whether it is known that the module only runs at `preprocess.size`.
    """

    name: str
    sha256: str
    labels: tuple[Label, ...] | None
    preprocess: Preprocess
    has_fixed_size: bool


def make_module_teacher(
    module: nn.Module, description: ModuleDescription, device: ComputeDevice
) -> Teacher:
    """Make a teacher from a PyTorch module.

    Args:
        module: A module in eval mode that maps float32 (B, 3, S, S) to logits
            (B, num_classes).
        description: What is known about the module without running it.
        device: The device to run the module on.

    Returns:
        The teacher, with the number of classes that the module returns.

    Raises:
        RequestError: The module does not return one tensor of logits, or the number of labels
            differs from the number of classes.
    """
    name, labels, preprocess = description.name, description.labels, description.preprocess
    module = device.move_module(module.requires_grad_(False))

    def compute_logits(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), device.autocast():
            output = module(device.move_images(torch.from_numpy(images)))
        if not isinstance(output, torch.Tensor) or output.ndim != 2:
            raise RequestError(
                f"{name} returns {_describe_output(output)}",
                "it must return one tensor of shape (B, number of classes)",
            )
        return np.asarray(output.float().cpu().numpy(), np.float32)

    # The number of classes is found by running the module once.
    blank_image = np.zeros((1, 3, preprocess.height, preprocess.width), np.float32)
    num_classes = compute_logits(blank_image).shape[1]
    if labels is not None and not _are_valid_labels(labels, num_classes):
        raise RequestError(
            f"the attribute labels of {name} is not a tuple of {num_classes} labels",
            "set it to a tuple of tinyvit.labels.Label, one for each class",
        )
    # Without labels, a teacher with as many classes as ImageNet-1k or ImageNet-22k gets theirs.
    return Teacher(
        name=name,
        sha256=description.sha256,
        num_classes=num_classes,
        labels=labels or imagenet_labels(num_classes),
        preprocess=preprocess,
        compute_logits=compute_logits,
        has_fixed_size=description.has_fixed_size,
    )


def open_timm_teacher(timm_name: str, name: str, device: ComputeDevice) -> Teacher:
    """Open a timm model with its published weights.

    Args:
        timm_name: Name of the model in timm, such as "resnet50.a1_in1k".
        name: The text that selected the teacher on the command line, such as
            "timm:resnet50.a1_in1k".
        device: The device to run the model on.

    Raises:
        RequestError: timm cannot create the model.
        MissingDependencyError: timm is not installed.
    """
    timm = import_timm()
    try:
        module = timm.create_model(timm_name, pretrained=True).eval()
    except Exception as error:  # the errors of the hub, urllib and timm have no common base class
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        reason = first_line[:_MAX_REASON_LENGTH]
        raise RequestError(
            f"timm cannot create {timm_name} ({reason})",
            "check that timm.list_pretrained() contains the name, and that this machine can "
            "download from the Hugging Face hub",
        ) from error
    config = timm.data.resolve_model_data_config(module)
    preprocess = replace(
        timm_preprocess(config["input_size"][-1]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    description = ModuleDescription(
        name=name,
        sha256=hash_weights(module),
        labels=None,
        preprocess=preprocess,
        has_fixed_size=False,
    )
    return make_module_teacher(module, description, device)


def _are_valid_labels(labels: object, num_classes: int) -> bool:
    """Return whether a module's labels are a tuple with one label for each class."""
    return (
        isinstance(labels, tuple)
        and len(labels) == num_classes
        and all(isinstance(label, Label) and isinstance(label.name, str) for label in labels)
    )


def _describe_output(output: object) -> str:
    """Describe what a module returned instead of logits, for a message."""
    if isinstance(output, torch.Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return f"an object of type {type(output).__name__}"


def hash_weights(module: nn.Module) -> str:
    """Compute a hash of the names and values in a module's state dict.

    Args:
        module: The module.

    Returns:
        The hex SHA-256 of all names in UTF-8, each followed by the bytes of the tensor's values.
    """
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        # NumPy has no bfloat16, so the bytes of each tensor are hashed.
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
