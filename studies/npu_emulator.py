r"""Compares the answers of an NPU's emulator with those of onnxruntime on photographs.

    python -m tinyvit.studies.npu_emulator demo.int8.sm8650.qnn.onnx --val-data DIR \
        --reference demo.int8.qnn.onnx --float32 demo.onnx --count 40 --processes 4

The emulator takes seconds for an image, so it answers a sample, in several processes.
onnxruntime answers the same images, and those of the float32 file show what the NPU's integers
cost. The command prints accuracy, agreement, and the largest difference of a logit beside the
tolerance of the golden vectors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit import Classifier
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.data.dataset_matching import match_dataset
from tinyvit.errors import RequestError
from tinyvit.metrics import agreement
from tinyvit.progress import Progress, make_progress

EMULATOR = "qnn-emulator"
"""Default engine of the compared file."""
REFERENCE_ENGINE = "onnxruntime"
"""Engine of the reference and of the float32 file."""
DEFAULT_COUNT = 40
"""Default number of images: minutes of one process for images of 224 x 224 pixels."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EmulatorComparison:
    """The answers of an emulator, compared with others.

    Attributes:
        image_count: Number of images.
        top1: Top-1 accuracy in percent, by the name of the file and its engine.
        reference_agreement: Percent of the images for which the emulator and onnxruntime predict
            the same class.
        float32_agreement: The same for the emulator and the float32 file; None without one.
        largest_difference: Largest absolute difference of a logit between the emulator and
            onnxruntime.
        tolerance: Tolerance of the golden vectors in the file; None if it has none.
    """

    image_count: int
    top1: dict[str, float]
    reference_agreement: float
    float32_agreement: float | None
    largest_difference: float
    tolerance: float | None

    def describe(self) -> list[str]:
        """Return the lines of a text."""
        lines = [f"{describe_cpu()}; {self.image_count} images"]
        lines += [f"  top-1 {percent:5.1f}%  {name}" for name, percent in self.top1.items()]
        lines.append(f"  agreement with onnxruntime {self.reference_agreement:.1f}%")
        if self.float32_agreement is not None:
            lines.append(f"  agreement with float32 {self.float32_agreement:.1f}%")
        tolerance = "" if self.tolerance is None else f" (tolerance {self.tolerance:.2g})"
        lines.append(f"  logits differ by at most {self.largest_difference:.2g}{tolerance}")
        return lines


def compare_logits(
    logits: dict[str, Logits],
    class_indices: Sequence[Sequence[int]],
    tolerance: float | None,
) -> EmulatorComparison:
    """Compare the logits of several files on the same images.

    Args:
        logits: Name -> logits, float32 (images, classes): first those of the emulator, then those
            of onnxruntime, then those of the float32 file, if there is one.
        class_indices: The indices of the correct classes of each image.
        tolerance: Tolerance of the golden vectors; None without any.

    Returns:
        The comparison.
    """
    predicted = {name: values.argmax(1) for name, values in logits.items()}
    emulated, reference, *float32 = predicted.values()
    values = list(logits.values())
    return EmulatorComparison(
        image_count=len(class_indices),
        top1={
            name: 100 * float(np.mean([i in right for i, right in zip(classes, class_indices)]))
            for name, classes in predicted.items()
        },
        reference_agreement=agreement(emulated, reference),
        float32_agreement=agreement(emulated, float32[0]) if float32 else None,
        largest_difference=float(np.abs(values[0] - values[1]).max()),
        tolerance=tolerance,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.npu_emulator",
        "Compare an NPU's emulator with onnxruntime on photographs.",
        "  python -m tinyvit.studies.npu_emulator demo.int8.qnn.onnx --val-data val --count 40",
    )
    parser.add_argument("file", metavar="FILE", help="The file that the emulator runs.")
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="The file that onnxruntime runs: that without --soc (default: FILE).",
    )
    parser.add_argument("--float32", metavar="FILE", help="The same model in float32.")
    parser.add_argument(
        "--val-data", required=True, metavar="DIR", help="Labeled images, in class folders."
    )
    parser.add_argument(
        "--engine", default=EMULATOR, help=f"Engine that runs FILE (default: {EMULATOR})."
    )
    for name, default, text in (
        ("--count", DEFAULT_COUNT, "Number of images, drawn evenly from the classes"),
        ("--processes", 1, "Number of processes; each opens FILE once"),
    ):
        parser.add_argument(
            name, type=positive_int, default=default, metavar="N", help=f"{text} ({default})."
        )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    progress = make_progress(json_output=options.json)
    reference = options.reference or options.file
    with Classifier(reference, REFERENCE_ENGINE) as classifier:
        labels, manifest = classifier.labels, classifier.manifest
    dataset = open_dataset(DatasetLocation(options.val_data, limit=options.count))
    matched = match_dataset(dataset, labels, only_known=True)
    paths = [sample.get_source() for sample in matched.samples]
    if not all(isinstance(path, (str, Path)) for path in paths):
        raise RequestError("--val-data is not a folder", "give a folder with class folders")
    images = [Path(str(path)) for path in paths]
    logits = {
        f"emulated: {options.file} in {options.engine}": _emulate(options, images, progress),
        f"reference: {reference} in {REFERENCE_ENGINE}": _compute_logits(reference, images),
    }
    if options.float32 is not None:
        name = f"float32: {options.float32} in {REFERENCE_ENGINE}"
        logits[name] = _compute_logits(options.float32, images)
    golden = manifest.golden if manifest is not None else None
    tolerance = None if golden is None else max(golden.tolerances)
    comparison = compare_logits(logits, matched.class_indices, tolerance)
    if options.json:
        print(json.dumps({"cpu": describe_cpu(), **asdict(comparison)}))
    else:
        print("\n".join(comparison.describe()))
    return 0


def _emulate(options: argparse.Namespace, images: Sequence[Path], progress: Progress) -> Logits:
    """Run the file in several processes; each process runs every n-th image."""
    count = min(options.processes, len(images))
    logits: dict[int, Logits] = {}
    # A forked process would inherit the locks of the engine's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        count, context, initializer=_open_in_worker, initargs=(options.file, options.engine)
    ) as pool:
        for done, row in enumerate(pool.map(_run_in_worker, images), 1):
            logits[done] = row
            progress.advance("emulating, images", done, len(images))
    return np.stack(list(logits.values()))


_worker_classifier: list[Classifier] = []
"""The opened file of a worker process."""


def _open_in_worker(file: str, engine: str) -> None:
    _worker_classifier.append(Classifier(file, engine))


def _run_in_worker(image: Path) -> Logits:
    return np.asarray(_worker_classifier[0].logits(image))


def _compute_logits(file: str, images: Sequence[Path]) -> Logits:
    """Return the logits of all images in onnxruntime, float32 (images, classes)."""
    with Classifier(file, REFERENCE_ENGINE) as classifier:
        return np.stack([np.asarray(classifier.logits(image)) for image in images])


if __name__ == "__main__":
    sys.exit(main())
