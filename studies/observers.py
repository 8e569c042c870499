"""Compares the accuracy of int8 with scales from different observers of torchao.

An observer collects statistics of the activations of a network while it runs on calibration images,
and computes from these statistics the scale with which the activations are quantized.

    python -m tinyvit.studies.observers --calib-data DIR --val-data DIR [--lite0 DIR ...]

The networks are the demo model and, with --lite0, EfficientNet-Lite0, which has 1000 classes. Both
run in torch, because the comparison is about scales and not about the kernels of an engine. Weights
have 7 bits, and the same tensors are quantized as for the onnx target. torchao's
AffineQuantizedMSEObserver is left out, because it uses only the last batch. torchao has no observer
that uses percentiles.
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

from tinyvit.bench.report.console import format_table_row
from tinyvit.cli import make_parser, run_guarded
from tinyvit.data.class_folders import LabeledImages
from tinyvit.data.listing import list_images
from tinyvit.errors import RequestError
from tinyvit.labels import imagenet_labels
from tinyvit.metrics import compare_logits
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.fold import fold_model
from tinyvit.preprocess import Preprocess
from tinyvit.quant.accuracy_budget import ArtifactOutputs, BatchFactory
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.images.calibration_data import read_calibration_set
from tinyvit.quant.images.image_counts import BATCH_SIZE
from tinyvit.quant.images.validation_data import ValidationSet, read_validation_set
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.studies.efficientnet_lite0 import LITE0_FLOAT_UNITS, fold_lite0, load_lite0

OBSERVERS = ("MinMaxObserver", "MovingAverageMinMaxObserver", "HistogramObserver")
"""Names of the observer classes of `torchao.quantization.pt2e` that are compared."""
SCHEME = QuantScheme(activations="uint8", quantized_outputs="convolutions", attention=False)
"""Which tensors are quantized: the same as for the onnx target."""
WEIGHT_BITS = 7
"""The onnx target's default, which is correct on processors without VNNI too."""

_WNID_LENGTH = len("n02123045")
_COLUMNS = (
    "network",
    "observer",
    "top-1 float32",
    "top-1 int8",
    "worse / better",  # images that only the float32 / only the int8 network classifies correctly
    "agreement",
    "logits' square error",
)
_TABLE_HEAD = f"{format_table_row(_COLUMNS)}\n{'|---' * len(_COLUMNS)}|"
_EXAMPLES = """\
  python -m tinyvit.studies.observers --calib-data train --val-data val
  python -m tinyvit.studies.observers --calib-data train --val-data val --lite0 photographs \\
      --out observers.md"""


@dataclass(frozen=True)
class ObserverComparison:
    """Compares the observers on one network.

    Attributes:
        name: Name of the network in the table.
        network: The float32 network, with each BatchNorm folded into the convolution before it.
        calibration_images: Normalized images for calibration, float32 (N, 3, S, S).
        preprocess: The preprocessing of the network.
        make_batches: Function that returns the batches of labeled images for evaluation. None of
            these images is used for calibration.
        float_units: Names of layers that stay float32, in addition to `quant_scheme.FLOAT_LAYERS`.
    """

    name: str
    network: nn.Module
    calibration_images: Tensor
    preprocess: Preprocess
    make_batches: BatchFactory
    float_units: tuple[str, ...] = ()

    def evaluate_observers(self) -> Iterator[str]:
        """Calibrate with each observer, and evaluate the int8 network.

        Yields:
            The row of each observer in the Markdown table, as soon as the observer is evaluated.
        """
        float32_outputs = self._compute_outputs(self.network)
        count = len(self.calibration_images)
        for observer in OBSERVERS:
            # The hashes are empty, because the recipe is not saved.
            recipe = Recipe(
                checkpoint_sha256="",
                img_size=self.preprocess.size,
                scales=calibrate(self.network, self.calibration_images, observer=observer),
                weight_bits=WEIGHT_BITS,
                float_units=self.float_units,
                method=f"torchao {observer}",
                calibration_sha256="",
                calibration_count=count,
            )
            int8_outputs = self._compute_outputs(quantize_network(self.network, recipe, SCHEME))
            comparison = compare_logits(
                int8_outputs.logits, float32_outputs.logits, float32_outputs.correct_classes
            )
            differences = int8_outputs.logits - float32_outputs.logits
            mean_square_error = float(np.square(differences, dtype=np.float64).mean())
            cells = (
                # The numbers of images for calibration and for evaluation.
                f"{self.name}, {count} / {comparison.image_count} images",
                observer,
                f"{comparison.reference_top1:.1f}%",
                f"{comparison.top1:.1f}%",
                f"{comparison.worse} / {comparison.better}",
                f"{comparison.agreement:.1f}%",
                f"{mean_square_error:.4f}",
            )
            yield format_table_row(cells)

    def _compute_outputs(self, network: nn.Module) -> ArtifactOutputs:
        """Run a network in torch on all images for evaluation."""
        logits, targets = [], []
        with torch.inference_mode():
            for pixels, batch_targets in self.make_batches():
                assert batch_targets is not None  # all images for evaluation are labeled
                # Larger batches are slower, because most of the time is spent allocating memory.
                for start in range(0, len(pixels), BATCH_SIZE):
                    inputs = self.preprocess.normalize(pixels[start : start + BATCH_SIZE])
                    logits.append(network(torch.from_numpy(inputs)).numpy())
                targets.append(batch_targets)
        return ArtifactOutputs((np.concatenate(logits),), np.concatenate(targets))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.observers",
        "Compare the accuracy of int8 with scales from different observers of torchao. The networks"
        " run in torch.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _print_table(options))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "--calib-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="images for calibrating the demo model",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="other images for evaluating the demo model, in folders named by WordNet id",
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
        help="also compare the observers on EfficientNet-Lite0, with one half of the photographs in"
        " these folders for calibration and the other half for evaluation; the file names must"
        " begin with a WordNet id",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the table to this file"
    )


def _print_table(options: argparse.Namespace) -> int:
    """Print the rows of all comparisons as soon as they are computed. Return the exit code."""
    comparisons = [_prepare_demo_model(options.calib_data, options.val_data, options.calib_count)]
    if options.lite0:
        comparisons.append(_prepare_lite0(options.lite0))
    lines = []
    rows = chain.from_iterable(comparison.evaluate_observers() for comparison in comparisons)
    for line in chain([_TABLE_HEAD], rows):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _prepare_demo_model(calib_data: Path, val_data: Path, count: int) -> ObserverComparison:
    """Prepare the comparison on the demo model; `count` images are used for calibration."""
    checkpoint = load_released("demo")
    preprocess = checkpoint.preprocess
    assert checkpoint.labels is not None
    validation = read_validation_set(val_data, preprocess, checkpoint.labels)
    pixels = read_calibration_set(calib_data, preprocess, count).pixels[:]
    return ObserverComparison(
        name="demo model (TinyViT-5M)",
        network=fold_model(checkpoint.build()),
        calibration_images=torch.from_numpy(preprocess.normalize(pixels)),
        preprocess=preprocess,
        make_batches=validation.batches,
    )


def _prepare_lite0(folders: Sequence[Path]) -> ObserverComparison:
    """Prepare the comparison on EfficientNet-Lite0."""
    preprocess = Preprocess(size=224, resize=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    network = fold_lite0(load_lite0())
    calibration, evaluation = split_photographs(folders, preprocess)
    pixels = np.concatenate([pixels for pixels, _ in calibration.batches()])
    return ObserverComparison(
        name="EfficientNet-Lite0, 1000 classes",
        network=network,
        calibration_images=torch.from_numpy(preprocess.normalize(pixels)),
        preprocess=preprocess,
        make_batches=evaluation.batches,
        float_units=LITE0_FLOAT_UNITS,
    )


def split_photographs(
    folders: Sequence[Path], preprocess: Preprocess
) -> tuple[ValidationSet, ValidationSet]:
    """Divide photographs into two halves.

    Args:
        folders: Folders of photographs whose file names begin with the WordNet id of their class.
        preprocess: The preprocessing of the network.

    Returns:
        Every second photograph in the order of file names, beginning with the first; and the
        others.

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
    first_half = LabeledImages(tuple(files[::2]), classes[::2])
    second_half = LabeledImages(tuple(files[1::2]), classes[1::2])
    return ValidationSet(first_half, preprocess), ValidationSet(second_half, preprocess)


if __name__ == "__main__":
    raise SystemExit(main())
