"""Checkpoints: weights of a TinyViT, with its architecture, preprocessing, labels and license.

The layout of a checkpoint file is the naming of its keys: "timm" (as in timm) or "official" (as in
the paper's code, microsoft/Cream). Files of both layouts become a `Checkpoint` with timm's keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyvit.errors import CheckpointError, TinyViTError
from tinyvit.files import sha256
from tinyvit.labels import Label, imagenet_labels, labels_by_wnid
from tinyvit.nn.model import TinyViT
from tinyvit.nn.state_dicts import (
    Architecture,
    complete_state_dict,
    convert_keys,
    recognize_architecture,
    recognize_layout,
    resize_state_dict,
)
from tinyvit.nn.training_windows import find_training_windows
from tinyvit.nn.weight_files import find_weight_file, read_weights
from tinyvit.preprocess import (
    PREPROCESS_FIELDS,
    Preprocess,
    paper_preprocess,
    timm_preprocess,
)
from tinyvit.serialization import parse_dataclass, require_fields
from tinyvit.variants import Variant, Windows, check_size, check_windows, compute_window_sizes

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""Endings of the names of checkpoint files."""

_PREPROCESS_RULES = {"timm": timm_preprocess, "official": paper_preprocess}
"""The function that returns the default preprocessing for an image size, for each layout."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a TinyViT with the key names of timm, and the properties of the model.

    Attributes:
        name: Name for messages and for the manifest of exported files.
        variant: Architecture of the model.
        img_size: Side of the square input in pixels.
        num_classes: Number of classes.
        state_dict: Weights, float32.
        layout: Naming of the keys in the file: "timm" or "official".
        container: Key under which the file contains the state dict, such as "state_dict_ema"; ""
            if the file itself is the state dict.
        preprocess: The preprocessing in the metadata of the file, or else the default for its
            layout and image size.
        labels: Class labels, None if unknown.
        license: License of the weights, or "unknown".
        sha256: Hex digest of the file.
        windows: "scaled" if the attention biases were interpolated by `at_size`, "checkpoint" if
            the windows are those of the file.
        default_windows: What `at_size` does with the windows by default.
        default_windows_reason: Why that is the default, as a clause.
        notes: What the user should know about how the file was read, as sentences.
    """

    name: str
    variant: Variant
    img_size: int
    num_classes: int
    state_dict: dict[str, Tensor]
    layout: str
    container: str
    preprocess: Preprocess
    labels: tuple[Label, ...] | None
    license: str
    sha256: str
    windows: Windows = "checkpoint"
    default_windows: Windows = "checkpoint"
    default_windows_reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def window_sizes(self) -> tuple[int, int, int, int]:
        """Sides of the attention windows of the four stages in tokens.

        The first stage has no attention and does not use its number.
        """
        # A head has one bias for each token of a window.
        second, third, fourth = (
            math.isqrt(self.state_dict[f"stages.{i}.blocks.0.attn.attention_biases"].shape[1])
            for i in (1, 2, 3)
        )
        return second, second, third, fourth

    @property
    def pads_windows(self) -> bool:
        """Whether feature maps are padded, because windows do not fit in them."""
        return self.window_sizes != compute_window_sizes(self.img_size)

    def build(self) -> TinyViT:
        """Create the network with these weights.

        Returns:
            The network on the CPU, in eval mode.
        """
        with torch.device("meta"):
            model = TinyViT(self.variant, self.num_classes, self.img_size, self.window_sizes)
        model = model.to_empty(device="cpu")
        # `to_empty` leaves the index buffers without values, and no state dict contains them. They
        # are copied from a second network, which is created on the CPU.
        cpu_network = TinyViT(self.variant, 1, self.img_size, self.window_sizes)
        for name, index in cpu_network.named_buffers():
            if name.startswith("bias_index"):
                model.get_buffer(name).copy_(index)
        model.load_state_dict(self.state_dict, strict=True)
        return model.eval()

    def at_size(self, img_size: int, windows: Windows | None = None) -> Checkpoint:
        """Adapt the checkpoint to another image size.

        Args:
            img_size: Side of the square input in pixels.
            windows: What happens to the attention windows: "checkpoint" keeps their sizes and pads
                feature maps, "scaled" interpolates the attention biases (see `resize_state_dict`)
                to windows in proportion to the image size. None keeps the network as it is at the
                checkpoint's own size, and selects `default_windows` at another size.

        Returns:
            A checkpoint for that size. Resize and crop become the defaults of the layout for the
            new size; mean, standard deviation and interpolation stay the same.

        Raises:
            RequestError: TinyViT cannot run at this size.
        """
        check_windows(windows)
        if img_size == self.img_size and windows is None:
            return self
        check_size(img_size)
        resized = self if img_size == self.img_size else self._with_size(img_size)
        windows = windows or self.default_windows
        if windows == "checkpoint" or not resized.pads_windows:
            return resized
        architecture = Architecture(self.variant, img_size, self.num_classes)
        state_dict = resize_state_dict(self.state_dict, architecture)
        return replace(resized, state_dict=state_dict, windows="scaled")

    def describe_windows(self) -> str | None:
        """Describe what happened to the attention windows, for messages and reports.

        Returns:
            A clause; None if the windows fit and were not changed, so there was nothing to decide.
        """
        sides = ", ".join(map(str, self.window_sizes[1:]))
        if self.windows == "scaled":
            return f"scaled to {sides} tokens, with interpolated attention biases"
        if self.pads_windows:
            return f"{sides} tokens as in the checkpoint, with padded feature maps"
        return None

    def _with_size(self, img_size: int) -> Checkpoint:
        """Change the image size and the sizes in the preprocessing, but not the weights."""
        preprocess = replace(
            _PREPROCESS_RULES[self.layout](img_size),
            mean=self.preprocess.mean,
            std=self.preprocess.std,
            interpolation=self.preprocess.interpolation,
        )
        return replace(self, img_size=img_size, preprocess=preprocess)


def load_checkpoint(path: Path, name: str | None = None) -> Checkpoint:
    """Read a checkpoint file of either layout.

    Args:
        path: A safetensors file or a file of `torch.save`. It may come from an untrusted source.
        name: Name for messages and the manifest; by default the file name without suffix.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: The file cannot be read or does not contain a TinyViT.
    """
    weights = read_weights(path)
    layout = recognize_layout(weights.tensors, path)
    state_dict = convert_keys(weights.tensors, layout)
    architecture = recognize_architecture(state_dict, path)
    training = find_training_windows(
        weights.metadata, weights.config, layout, architecture.img_size
    )
    license_name = weights.metadata.get("license")
    return Checkpoint(
        name=name or path.stem,
        variant=architecture.variant,
        img_size=training.img_size,
        num_classes=architecture.num_classes,
        state_dict=complete_state_dict(state_dict, architecture, path),
        layout=layout,
        container=weights.container,
        preprocess=_find_preprocess(weights.metadata, layout, training.img_size, path),
        labels=_find_labels(weights.metadata, architecture.num_classes),
        license=license_name if isinstance(license_name, str) else "unknown",
        sha256=sha256(find_weight_file(path)),
        default_windows=training.default,
        default_windows_reason=training.reason,
        notes=training.notes,
    )


def _find_preprocess(
    metadata: dict[str, Any], layout: str, img_size: int, path: Path
) -> Preprocess:
    """Return the preprocessing in the metadata of the file, or else the default of its layout."""
    data = metadata.get("preprocess")
    if not isinstance(data, dict):
        return _PREPROCESS_RULES[layout](img_size)
    try:
        require_fields(data, PREPROCESS_FIELDS, "preprocess")
        return parse_dataclass(Preprocess, data, "preprocess")
    except (ValueError, TinyViTError) as error:
        raise CheckpointError(
            f"the preprocessing in the metadata of {path} is not valid ({error})",
            "correct the entry preprocess in the metadata of the file, or remove it",
        ) from error


def _find_labels(metadata: dict[str, Any], num_classes: int) -> tuple[Label, ...] | None:
    """Return the labels in the metadata, or else ImageNet's.

    Labels count only if there are `num_classes` of them; None if there are no such labels.
    """
    names = metadata.get("labels") or metadata.get("class_names") or metadata.get("classes")
    if names is None and isinstance(metadata.get("class_to_idx"), dict):
        indices = metadata["class_to_idx"]
        names = sorted(indices, key=indices.__getitem__)
    if not isinstance(names, (list, tuple)) or len(names) != num_classes:
        return imagenet_labels(num_classes)
    # A class that is named by a WordNet id gets the label of this id.
    labels = labels_by_wnid()
    return tuple(labels.get(str(name), Label(str(name))) for name in names)
