"""Measures the agreement between artifacts (exported model files) of one model.

    python -m tinyvit.studies.agreement ARTIFACT[@ENGINE] ARTIFACT[@ENGINE] ... --val-data DIR

The command prints the top-1 accuracy of each artifact, and the agreement of each pair: the
percentage of images for which both predict the same class. Without @ENGINE, an artifact runs in the
best installed engine. For example, demo.int8.mlpackage@coreml-reference runs on a system without
Core ML, in an evaluator that computes what the format specifies.
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
from tinyvit.bench.record import AccuracyResult
from tinyvit.bench.report.console import format_table_row
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
        argv: Arguments without the program name; None for `sys.argv[1:]`.

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
        help="Two or more artifacts of one model. ENGINE is the name of the engine that runs the"
        " artifact (default: the best installed one).",
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
    """Return the percentage of equal classes, among the images that both evaluations could read."""
    images = find_shared_images(first, second)
    return agreement(_get_predicted_classes(first, images), _get_predicted_classes(second, images))


def _get_predicted_classes(evaluation: Evaluation, images: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the predicted classes of the images with the given indices."""
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
        evaluation_options = EvaluationOptions(engine_name=engine_name or None)
        evaluations.append(evaluate(path, dataset, evaluation_options, progress))
    results = [
        make_accuracy_result(evaluation, keep_predictions=True) for evaluation in evaluations
    ]
    agreements = compute_agreements(evaluations)
    if options.json:
        print(_format_json(results, agreements, image_count=len(dataset.samples)))
    else:
        print(f"{describe_cpu()}; {len(dataset.samples)} images; agreement in percent\n")
        print("\n".join(_format_table(results, agreements)))
    return 0


def _format_json(
    results: Sequence[AccuracyResult], agreements: Sequence[Sequence[float]], image_count: int
) -> str:
    files = [
        {
            "file": Path(result.artifact.path).name,
            "engine": result.artifact.engine.engine,
            "top1": result.top1,
            "predictions": result.predictions,
        }
        for result in results
    ]
    output = {
        "cpu": describe_cpu(),
        "images": image_count,
        "files": files,
        "agreement": agreements,
    }
    return json.dumps(output)


def _format_table(
    results: Sequence[AccuracyResult], agreements: Sequence[Sequence[float]]
) -> list[str]:
    """Return the lines of a table in which both rows and columns are the numbered artifacts."""
    column_numbers = " | ".join(str(i + 1) for i in range(len(results)))
    lines = [f"| | engine | top-1 | {column_numbers} |", "|---" * (3 + len(results)) + "|"]
    for i, (result, percentages) in enumerate(zip(results, agreements)):
        name = f"{i + 1}: {Path(result.artifact.path).name}"
        cells = [name, result.artifact.engine.engine, f"{result.top1:.1f}"]
        cells += [f"{percentage:.1f}" for percentage in percentages]
        lines.append(format_table_row(cells))
    return lines


if __name__ == "__main__":
    sys.exit(main())
