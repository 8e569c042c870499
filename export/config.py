"""The options of an export, as given on the command line or in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tinyvit.errors import RequestError
from tinyvit.export.tracing import DEFAULT_OPSET, check_opset
from tinyvit.image_sizes import ImageSize, Windows, check_size, check_windows
from tinyvit.labels import LabelNames
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.outputs import OutputKind, make_output_request
from tinyvit.preprocess_settings import PreprocessSource, make_source_from_options
from tinyvit.urls import refuse_url

if TYPE_CHECKING:
    from tinyvit.quant.quantizer import QuantizationConfig

ALL_TARGETS = "all"
"""Name in `ExportConfig.targets` that requests every target whose tools are installed."""

MAX_BATCH = 4096
"""Largest number of images per call."""


@dataclass(frozen=True)
class ExportConfig:
    """The options of an export; the defaults are those of tinyvit-export.

    Attributes:
        model: Name of a released checkpoint, or "demo"; None if `checkpoint` is given. If both
            are None, the released checkpoint `tinyvit.variants.DEFAULT_MODEL` is exported.
        checkpoint: A file of `torch.save` or in safetensors format, or a folder in Hugging Face's
            layout, with the parameter names of the paper's code, timm or MMPretrain.
        targets: Names or aliases of targets; ("all",) for every target whose tools are installed.
        img_size: Size of the network's input in pixels: the side of a square, or (height, width);
            None keeps the checkpoint's own size.
        windows: What happens to the attention windows at another size: "checkpoint" keeps them and
            pads feature maps, as timm's TinyViT does; "scaled" interpolates the attention biases
            to larger or smaller windows, as the paper does. None selects what the checkpoint's
            training used if that is known, else "checkpoint".
        batch: Images per call, 1 to `MAX_BATCH`; None for a dynamic batch.
        preprocess: How much of the preprocessing becomes part of the artifact: "host" for none,
            "normalize", or "full".
        mean: Mean of each RGB channel (three numbers, or one for all) for pixel values from 0 to 1,
            instead of the training's.
        std: Standard deviation in the same form, instead of the training's.
        crop_pct: Side of the input divided by the length to which the image is resized, instead of
            the training's crop. The center is cropped.
        interpolation: "bicubic", "bilinear" or "lanczos", instead of the training's.
        labels: A file of labels; the names in the order of the logits; or a dict from indices to
            names or from names to indices. None keeps the checkpoint's own labels.
        output: What the artifact returns: "logits", "embedding" (the input of the classifier), or
            "features" (feature maps). None selects logits, or the embedding of a checkpoint without
            a classifier.
        stages: For output "features", the stages whose feature maps are returned, numbered from 0
            as in timm's `out_indices`; None for all four.
        output_path: For one target, a file, an existing folder, or a new folder if the path ends
            with "/". For several targets, a folder. None for the current folder. Files in a folder
            are named after the model.
        opset: ONNX opset of the traced network, for the targets that read or contain ONNX.
        overwrite: Whether existing files are replaced.
        processes: Largest number of processes that make artifacts of different targets at the same
            time. None for one on each core, as far as the free memory suffices and several are
            faster, which is the default of tinyvit-export.
        float16: Whether weights are stored as float16.
        quantization: How the network is quantized to int8; None leaves it unquantized.
        target_options: Options that only some targets have, as name -> value; see
            `Target.options`.
    """

    model: str | None = None
    checkpoint: str | Path | None = None
    targets: tuple[str, ...] = ("onnx",)
    img_size: ImageSize | None = None
    windows: Windows | None = None
    batch: int | None = 1
    preprocess: EmbeddedPreprocessing = "host"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    labels: str | Path | LabelNames | None = None
    output: OutputKind | None = None
    stages: tuple[int, ...] | None = None
    output_path: str | Path | None = None
    opset: int = DEFAULT_OPSET
    overwrite: bool = False
    processes: int | None = 1
    float16: bool = False
    quantization: QuantizationConfig | None = None
    target_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def precision(self) -> Precision:
        """Return the precision of every artifact of this export."""
        if self.float16:
            return "float16"
        return "float32" if self.quantization is None else self.quantization.precision

    @property
    def preprocess_options(self) -> PreprocessSource | None:
        """Return the options that override the preprocessing of the training, or None.

        Raises:
            RequestError: A value is not possible.
        """
        source = make_source_from_options(self.mean, self.std, self.crop_pct, self.interpolation)
        return None if source.is_empty else source

    def validate(self) -> None:
        """Check all options as far as possible without reading images and weights.

        Raises:
            RequestError: An option has an impossible value, two options contradict each other, or
                a file for quantization does not exist or cannot be used.
        """
        self._validate_source()
        self._validate_input()
        _ = self.preprocess_options  # checks its values
        self._validate_output()
        check_opset(self.opset)
        if self.quantization is not None:
            self.quantization.validate()
            if self.float16:
                raise RequestError(
                    "float16 and int8 were both requested",
                    "give one of --float16, --int8 and --int8-weights-only",
                )

    def _validate_output(self) -> None:
        """Check the options that determine what the artifact returns."""
        if self.stages is not None and self.output is None:
            raise RequestError(
                f"--stages {','.join(map(str, self.stages))} selects feature maps, which were not"
                " requested",
                "add --output features, or leave out --stages",
            )
        if self.output is None:
            return
        make_output_request(self.output, self.stages)
        if self.output != "logits" and self.labels is not None:
            raise RequestError(
                f"--labels names classes, and --output {self.output} has none",
                "leave out --labels",
            )
        if self.quantization is not None:
            self.quantization.check_output(self.output)

    def _validate_source(self) -> None:
        """Check the options that select the checkpoint and the files."""
        if self.model is not None and self.checkpoint is not None:
            raise RequestError(
                f"both --model {self.model} and --checkpoint {self.checkpoint} were given",
                "give one of them",
            )
        for name in ("checkpoint", "labels", "output_path"):
            refuse_url(name.replace("_", " "), getattr(self, name))

    def _validate_input(self) -> None:
        """Check the options that determine the shape and the type of the artifact's input."""
        allowed = get_args(EmbeddedPreprocessing)
        if self.preprocess not in allowed:
            raise RequestError(
                f"--preprocess {self.preprocess} is not possible",
                f"use one of {', '.join(allowed)}",
            )
        if self.batch is not None and not (
            isinstance(self.batch, int) and 1 <= self.batch <= MAX_BATCH
        ):
            raise RequestError(
                f"--batch {self.batch} is not possible",
                f"give a whole number from 1 to {MAX_BATCH}, or --dynamic-batch for any number",
            )
        if self.preprocess == "full" and self.batch != 1:
            raise RequestError(
                "--preprocess full takes one image at a time, of any size",
                "leave out --batch and --dynamic-batch, or use --preprocess normalize",
            )
        if self.img_size is not None:
            check_size(self.img_size)
        check_windows(self.windows, self.img_size)
