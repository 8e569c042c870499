"""Compares the observers of torchao: what int8 costs when the scales come from each of them.

    python -m tinyvit.studies.observers --calib-data DIR --val-data DIR [--lite0 DIR ...]

The networks are the demo model and, with --lite0, EfficientNet-Lite0, which has 1000 classes. The
comparison judges scales, not kernels: the networks run in torch, with weights of 7 bits, and round
where the onnx target rounds. AffineQuantizedMSEObserver of torchao is left out, because it uses the
last batch alone. torchao has no observer for percentiles.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tinyvit.cli import make_parser, run_guarded
from tinyvit.data.class_folders import LabeledImages
from tinyvit.data.listing import list_images
from tinyvit.errors import RequestError
from tinyvit.labels import imagenet_labels
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.preprocess import Preprocess
from tinyvit.quant.accuracy_budget import ArtifactOutputs, ImageBatches, compare_outputs
from tinyvit.quant.calibration import BATCH_SIZE, calibrate
from tinyvit.quant.calibration_data import read_calibration_set
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.validation_data import ValidationSet, read_validation_set
from tinyvit.quant_scheme import QuantScheme
from tinyvit.studies.efficientnet_lite0 import LITE0_FLOAT_UNITS, fold_lite0, load_lite0

OBSERVERS = ("MinMaxObserver", "MovingAverageMinMaxObserver", "HistogramObserver")
"""Classes in `torchao.quantization.pt2e`."""
SCHEME = QuantScheme("uint8", outputs="convolutions", attention=False)
"""The scheme of the onnx target, which rounds in more places than the others."""
WEIGHT_BITS = 7

_WNID_LENGTH = len("n02123045")
_COLUMNS = (
    "network",
    "observer",
    "top-1 float32",
    "top-1 int8",
    "worse / better",
    "agreement",
    "logits' square error",
)
_TABLE_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"
_EXAMPLES = """\
  python -m tinyvit.studies.observers --calib-data train --val-data val
  python -m tinyvit.studies.observers --calib-data train --val-data val --lite0 photographs \\
      --out observers.md"""


@dataclass(frozen=True)
class ObserverComparison:
    """A network, images to calibrate it on, and labeled images to evaluate it with.

    Attributes:
        name: Name of the network, as the table shows it.
        network: The float32 network after folding.
        calibration: Normalized images to calibrate on, float32 (N, 3, S, S).
        preprocess: The preprocessing of the network.
        images: Labeled images to evaluate with, not in `calibration`.
        float_units: Layers that stay float32, besides `quant_scheme.FLOAT_LAYERS`.
    """

    name: str
    network: nn.Module
    calibration: Tensor
    preprocess: Preprocess
    images: ImageBatches
    float_units: tuple[str, ...] = ()

    def rows(self) -> Iterator[str]:
        """Evaluate the observers, one after the other.

        Yields:
            A row of the Markdown table for each observer, as soon as it is known.
        """
        float32 = self._compute_outputs(self.network)
        count = len(self.calibration)
        for observer in OBSERVERS:
            recipe = Recipe(
                checkpoint_sha256="",
                img_size=self.preprocess.size,
                scales=calibrate(self.network, self.calibration, observer=observer),
                weight_bits=WEIGHT_BITS,
                float_units=self.float_units,
                method=f"torchao {observer}",
                calibration_sha256="",
                calibration_count=count,
            )
            int8 = self._compute_outputs(quantize_network(self.network, recipe, SCHEME))
            comparison = compare_outputs(int8, float32)
            error = float(np.square(int8.logits - float32.logits, dtype=np.float64).mean())
            cells = (
                f"{self.name}, {count} / {comparison.image_count} images",
                observer,
                f"{comparison.reference_top1:.1f}%",
                f"{comparison.top1:.1f}%",
                f"{comparison.worse} / {comparison.better}",
                f"{comparison.agreement:.1f}%",
                f"{error:.4f}",
            )
            yield f"| {' | '.join(cells)} |"

    def _compute_outputs(self, network: nn.Module) -> ArtifactOutputs:
        """Run a network in torch on all images to evaluate with."""
        logits, classes = [], []
        with torch.inference_mode():
            for pixels, batch_classes in self.images():
                assert batch_classes is not None
                # Larger batches are slower: they spend most of their time on allocating memory.
                for start in range(0, len(pixels), BATCH_SIZE):
                    inputs = self.preprocess.normalize(pixels[start : start + BATCH_SIZE])
                    logits.append(network(torch.from_numpy(inputs)).numpy())
                classes.append(batch_classes)
        return ArtifactOutputs(np.concatenate(logits), np.concatenate(classes))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command line; None takes those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.observers",
        "Compare what int8 costs with each observer of torchao. The networks run in torch.",
        _EXAMPLES,
    )
    parser.add_argument(
        "--calib-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="images to calibrate the demo model on",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="other images to evaluate the demo model with, in folders named by WordNet id",
    )
    parser.add_argument(
        "--calib-count",
        type=int,
        default=256,
        metavar="N",
        help="number of calibration images from --calib-data (default: 256)",
    )
    parser.add_argument(
        "--lite0",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="photographs whose file names begin with a WordNet id: also compare on"
        " EfficientNet-Lite0, calibrated on one half of them and evaluated on the other",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the table to this file"
    )
    options = parser.parse_args(argv)
    return run_guarded(lambda: _print_table(options))


def _print_table(options: argparse.Namespace) -> int:
    """Print the rows of all comparisons as soon as they are known. Return the exit code."""
    comparisons = [_demo_comparison(options.calib_data, options.val_data, options.calib_count)]
    if options.lite0:
        comparisons.append(_lite0_comparison(options.lite0))
    lines = []
    for line in chain([_TABLE_HEAD], *(comparison.rows() for comparison in comparisons)):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _demo_comparison(calib_data: Path, val_data: Path, count: int) -> ObserverComparison:
    """Prepare the comparison on the demo model."""
    checkpoint = load_released("demo")
    preprocess = checkpoint.preprocess
    assert checkpoint.labels is not None
    validation = read_validation_set(val_data, preprocess, checkpoint.labels)
    pixels = read_calibration_set(calib_data, preprocess, count).pixels
    return ObserverComparison(
        "TinyViT-5M, 10 classes",
        fold_model(checkpoint.build()),
        torch.from_numpy(preprocess.normalize(pixels)),
        preprocess,
        validation.batches,
    )


def _lite0_comparison(folders: Sequence[Path]) -> ObserverComparison:
    """Prepare the comparison on EfficientNet-Lite0."""
    preprocess = Preprocess(224, 256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    network = fold_lite0(load_lite0())
    calibration, evaluation = split_photographs(folders, preprocess)
    pixels = np.concatenate([pixels for pixels, _ in calibration.batches()])
    return ObserverComparison(
        "EfficientNet-Lite0, 1000 classes",
        network,
        torch.from_numpy(preprocess.normalize(pixels)),
        preprocess,
        evaluation.batches,
        LITE0_FLOAT_UNITS,
    )


def split_photographs(
    folders: Sequence[Path], preprocess: Preprocess
) -> tuple[ValidationSet, ValidationSet]:
    """Divide photographs into two halves.

    Args:
        folders: Folders of photographs whose file names begin with the WordNet id of their class.
        preprocess: The preprocessing of the network.

    Returns:
        Every second photograph in the order of their names, and the others.

    Raises:
        RequestError: A file name does not begin with the WordNet id of an ImageNet-1k class.
        ImageError: A folder cannot be read, or has no images.
    """
    labels = imagenet_labels(1000)
    assert labels is not None
    class_indices = {label.wnid: index for index, label in enumerate(labels)}
    files = [file for folder in folders for file in list_images(folder)]
    files.sort(key=lambda file: file.name)
    for file in files:
        if file.name[:_WNID_LENGTH] not in class_indices:
            raise RequestError(
                f"the name of {file} does not begin with the WordNet id of an ImageNet-1k class",
                "rename it, for example to n02123045_tabby.jpg",
            )
    classes = np.array([class_indices[file.name[:_WNID_LENGTH]] for file in files])
    first, second = (
        ValidationSet(LabeledImages(tuple(files[start::2]), classes[start::2]), preprocess)
        for start in (0, 1)
    )
    return first, second


if __name__ == "__main__":
    raise SystemExit(main())
