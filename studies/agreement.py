"""Measures the agreement between artifacts (exported files) of one model in different engines.

    python -m tinyvit.studies.agreement ARTIFACT[@ENGINE] ARTIFACT[@ENGINE] ... --val-data DIR

Prints the top-1 accuracy of each artifact, and the agreement of each pair: the percentage of images
for which both predict the same class. ENGINE selects another engine than the best installed one,
for example demo.int8.mlpackage@coreml-reference on a system without Core ML.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.bench.accuracy.evaluate import Evaluation, evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.results import find_shared_images, make_accuracy_result
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.errors import RequestError
from tinyvit.metrics import agreement
from tinyvit.progress import make_progress

_EXAMPLES = """\
  python -m tinyvit.studies.agreement demo.onnx demo.int8.onnx demo.int8.xml --val-data val
  python -m tinyvit.studies.agreement demo.int8.onnx demo.int8.mlpackage@coreml-reference \\
    --val-data val --limit 200"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.agreement",
        "Measure how often artifacts of one model predict the same class.",
        _EXAMPLES,
    )
    parser.add_argument(
        "artifacts",
        nargs="+",
        metavar="ARTIFACT[@ENGINE]",
        help="Two or more artifacts of one model (default engine: the best installed one).",
    )
    parser.add_argument(
        "--val-data",
        required=True,
        metavar="DIR",
        help="Labeled images, with one folder per class named by WordNet id or label.",
    )
    parser.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="Use only N images, the same number of each class if possible (default: all).",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object instead of a table."
    )
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def compute_agreements(evaluations: Sequence[Evaluation]) -> list[list[float]]:
    """Return the agreement of each pair of evaluations, as a symmetric matrix of percentages.

    Args:
        evaluations: The evaluations of several artifacts on the same images.

    Raises:
        RequestError: The artifacts have different classes.
    """
    return [[_compute_agreement(first, second) for second in evaluations] for first in evaluations]


def _compute_agreement(first: Evaluation, second: Evaluation) -> float:
    images = find_shared_images(first, second)
    return agreement(_predicted_classes(first, images), _predicted_classes(second, images))


def _predicted_classes(evaluation: Evaluation, images: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array([evaluation.predictions[i].classes[0] for i in images], np.int64)


def _run(options: argparse.Namespace) -> int:
    if len(options.artifacts) < 2:
        raise RequestError(
            "only one artifact is given, so there is nothing to compare it with",
            "give two or more ARTIFACT[@ENGINE]",
        )
    dataset = open_dataset(DatasetLocation(options.val_data, limit=options.limit))
    progress = make_progress(json_output=options.json)
    evaluations = []
    for artifact in options.artifacts:
        path, _, engine_name = artifact.partition("@")
        settings = EvaluationOptions(engine_name=engine_name or None)
        evaluations.append(evaluate(path, dataset, settings, progress))
    results = [make_accuracy_result(e, keep_predictions=True) for e in evaluations]
    agreements = compute_agreements(evaluations)
    image_count = len(dataset.samples)
    rows = [
        {
            "file": Path(result.artifact.path).name,
            "engine": result.artifact.engine.engine,
            "top1": result.top1,
            "predictions": result.predictions,
        }
        for result in results
    ]
    if options.json:
        output = {
            "cpu": describe_cpu(),
            "images": image_count,
            "files": rows,
            "agreement": agreements,
        }
        print(json.dumps(output))
        return 0
    print(f"{describe_cpu()}; {image_count} images; agreement in percent\n")
    columns = " | ".join(str(i + 1) for i in range(len(rows)))
    print(f"| | engine | top-1 | {columns} |\n{'|---' * (3 + len(rows))}|")
    for i, (row, percentages) in enumerate(zip(rows, agreements)):
        cells = " | ".join(f"{percentage:.1f}" for percentage in percentages)
        print(f"| {i + 1}: {row['file']} | {row['engine']} | {row['top1']:.1f} | {cells} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
