"""Checkpoints: weights of a TinyViT, with its architecture, preprocessing, labels and license.

The layout of a checkpoint file is the naming of its keys: "timm" (as in timm), "official" (as in
the paper's code, microsoft/Cream) or "mobile_sam" (the image encoder of MobileSAM). Files of every
layout become a `Checkpoint` with timm's keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvit.errors import RequestError
from tinyvit.image_sizes import (
    ImageSize,
    Windows,
    can_scale_windows,
    check_size,
    check_windows,
    compute_map_sizes,
    compute_window_sizes,
)
from tinyvit.labels import Label
from tinyvit.nn.checkpoints.preprocessing.training_preprocess import make_preprocess
from tinyvit.nn.checkpoints.state_dicts.fitting import resize_state_dict
from tinyvit.nn.checkpoints.state_dicts.layouts import (
    MOBILE_SAM,
    Architecture,
)
from tinyvit.nn.mobile_sam import MobileSamEncoder
from tinyvit.nn.model import TinyViT
from tinyvit.outputs import IMAGE_EMBEDDINGS, LOGITS, OutputRequest
from tinyvit.preprocess import Preprocess
from tinyvit.preprocess_settings import PreprocessSettings
from tinyvit.variants import Variant


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a TinyViT with the key names of timm, and the properties of the model.

    Attributes:
        name: Name for messages and for the manifest of exported files.
        variant: Architecture of the model.
        img_size: Size of the input in pixels.
        num_classes: Number of classes; 0 if the file has no classifier.
        state_dict: Weights, float32.
        layout: Naming of the keys in the file: "timm", "official" or "mobile_sam".
        container: Keys under which the file contains the state dict, joined with ".", such as
            "state_dict_ema"; "" if the file itself is the state dict.
        preprocess: The preprocessing of the training for `img_size` (see
            `tinyvit.nn.checkpoints.preprocessing.training_preprocess`).
        preprocess_source: Where the preprocessing comes from, such as "config.json".
        settings: The settings of the training's preprocessing that hold at every image size.
        labels: Class labels, None if unknown.
        labels_source: Where the labels come from, or the assumption on which they are based.
        notes: Sentences about what was ignored, contradictions and assumptions.
        license: License of the weights, or "unknown".
        sha256: Hex digest of the file; of split weights, see `weight_folders.hash_weight_files`.
        windows: "scaled" if the attention biases were interpolated by `at_size`, "checkpoint" if
            the windows are those of the file.
        default_windows: What `at_size` does with the windows by default.
        default_windows_reason: Why that is the default, as a clause for a message.
    """

    name: str
    variant: Variant
    img_size: ImageSize
    num_classes: int
    state_dict: dict[str, Tensor]
    layout: str
    container: str
    preprocess: Preprocess
    preprocess_source: str
    settings: PreprocessSettings
    labels: tuple[Label, ...] | None
    labels_source: str
    notes: tuple[str, ...]
    license: str
    sha256: str
    windows: Windows = "checkpoint"
    default_windows: Windows = "checkpoint"
    default_windows_reason: str = ""

    @property
    def is_mobile_sam(self) -> bool:
        """Return whether the network is the image encoder of MobileSAM."""
        return self.layout == MOBILE_SAM

    @property
    def architecture_name(self) -> str:
        """Return the name of the architecture in manifests.

        It is that of the variant, or "mobile_sam_5m" for the encoder of MobileSAM.
        """
        if not self.is_mobile_sam:
            return self.variant.name
        return self.variant.short_name.replace("tinyvit", MOBILE_SAM)

    @property
    def window_sizes(self) -> tuple[int, int, int, int]:
        """Return the sides of the attention windows of the four stages in tokens.

        The first stage has no attention and does not use its number.
        """
        # A head has one bias for each absolute offset (rows, columns) between two tokens of a
        # window. In a window of side n, both offsets are from 0 to n - 1, so there are n**2 biases.
        second, third, fourth = (
            math.isqrt(self.state_dict[f"stages.{i}.blocks.0.attn.attention_biases"].shape[1])
            for i in (1, 2, 3)
        )
        return second, second, third, fourth

    @property
    def has_proportional_windows(self) -> bool:
        """Return whether the windows have the sizes that `compute_window_sizes` gives.

        The sizes are compared for `img_size`. They can also agree without interpolated biases
        (`windows` "checkpoint"). For an image that is not square, they never agree.
        """
        return (
            isinstance(self.img_size, int)
            and not self.is_mobile_sam
            and can_scale_windows(self.img_size)
            and self.window_sizes == compute_window_sizes(self.img_size)
        )

    @property
    def pads_windows(self) -> bool:
        """Return whether the feature map of a stage is padded to a multiple of its windows."""
        map_sizes = compute_map_sizes(self.img_size, 1 if self.is_mobile_sam else 2)
        # The first stage has no attention.
        stages = zip(map_sizes[1:], self.window_sizes[1:])
        return any(side % window != 0 for sides, window in stages for side in sides)

    def build(self, output: OutputRequest = LOGITS) -> TinyViT:
        """Create the network with these weights.

        Args:
            output: What the network returns. Weights that this does not need are left out.

        Returns:
            The network on the CPU, in eval mode.

        Raises:
            RequestError: Logits are requested, and the checkpoint has no classifier; or it is a
                MobileSAM, and something else than `IMAGE_EMBEDDINGS` is requested.
        """
        if self.is_mobile_sam and output != IMAGE_EMBEDDINGS:
            raise RequestError(
                f"{self.name} is a MobileSAM, whose image encoder returns image embeddings, not"
                f" {output.describe()}",
                "leave out --output and --stages",
            )
        if output.kind == "logits" and not self.num_classes:
            raise RequestError(
                f"{self.name} has no classifier (num_classes=0), so it computes no logits",
                "give --output embedding or --output features",
            )
        num_classes = self.num_classes if output.kind == "logits" else 0
        # The random weights of the new network must not change the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            if self.is_mobile_sam:
                model: TinyViT = MobileSamEncoder(self.variant, self.img_size, self.window_sizes)
            else:
                model = TinyViT(
                    self.variant, num_classes, self.img_size, self.window_sizes, output.stages
                )
        model.load_state_dict({key: self.state_dict[key] for key in model.state_dict()})
        return model.eval()

    def at_size(self, img_size: ImageSize, windows: Windows | None = None) -> Checkpoint:
        """Adapt the checkpoint to another image size.

        Args:
            img_size: Size of the input in pixels.
            windows: What happens to the attention windows: "checkpoint" keeps their sizes and pads
                feature maps where necessary; "scaled" makes the windows proportional to the image
                size and interpolates the attention biases (see `resize_state_dict`), which needs a
                square whose side is a multiple of 32. None keeps the network as it is at the
                checkpoint's own size, and selects `choose_windows` at another size.

        Returns:
            A checkpoint for that size. The settings of the training's preprocessing stay the same.
            If the training states no crop, the crop becomes the default for the new size in the
            code that defines the layout (timm or the paper's code).

        Raises:
            RequestError: TinyViT cannot run at this size, or windows cannot be scaled to it.
        """
        check_windows(windows)
        if img_size == self.img_size and windows is None:
            return self
        check_size(img_size)
        if self.is_mobile_sam and windows == "scaled":
            raise RequestError(
                f"--windows scaled is not possible for {self.name}, because a MobileSAM was trained"
                " with padded feature maps",
                "leave out --windows",
            )
        check_windows(windows, img_size)
        resized = self if img_size == self.img_size else self._with_size(img_size)
        windows = windows or self.choose_windows(img_size)[0]
        if windows == "checkpoint" or resized.has_proportional_windows:
            return resized
        assert isinstance(img_size, int)
        architecture = Architecture(self.variant, img_size, self.num_classes)
        state_dict = resize_state_dict(self.state_dict, architecture)
        return replace(resized, state_dict=state_dict, windows="scaled")

    def choose_windows(self, img_size: ImageSize) -> tuple[Windows, str]:
        """Choose what happens to the attention windows at another image size without a request.

        Args:
            img_size: Size of the input in pixels.

        Returns:
            `default_windows`, or "checkpoint" if windows cannot be scaled to this size; and the
            reason, as a clause for a message.
        """
        if self.default_windows == "scaled" and not can_scale_windows(img_size):
            return (
                "checkpoint",
                "windows scale only to squares with a side that is a multiple of 32",
            )
        return self.default_windows, self.default_windows_reason

    def describe_windows(self) -> str | None:
        """Describe what happened to the attention windows, for messages and reports.

        Returns:
            A clause; None if the windows of the checkpoint are in proportion to the image size, or
            if the network is a MobileSAM, so there was nothing to decide.
        """
        if self.is_mobile_sam:
            return None
        sides = ", ".join(map(str, self.window_sizes[1:]))
        if self.windows == "scaled":
            return f"scaled to {sides} tokens, with interpolated attention biases"
        if self.has_proportional_windows:
            return None
        padding = "with padded feature maps" if self.pads_windows else "without padding"
        return f"{sides} tokens as in the checkpoint, {padding}"

    def _with_size(self, img_size: ImageSize) -> Checkpoint:
        """Change the image size and the sizes in the preprocessing, but not the weights."""
        preprocess = make_preprocess(self.settings, self.layout, img_size, self.name)
        return replace(self, img_size=img_size, preprocess=preprocess)
