"""How often files of one model give the same answer, whatever their engines: top-1 of each, and of each pair the share of equal answers.

    python -m tinyvit.studies.agreement FILE[@RUNTIME] FILE[@RUNTIME] ... --val-data DIR [--limit N] [--json]

RUNTIME is an engine's name where the best installed one is not meant: demo.int8.mlpackage@coreml-reference off a Mac.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import RequestError
from tinyvit.runtimes.classifier import Classifier
from tinyvit.studies.int8_comparison import labeled

_EXAMPLES = """\
  python -m tinyvit.studies.agreement demo.onnx demo.int8.onnx demo.int8.xml demo.int8.tflite --val-data val
  python -m tinyvit.studies.agreement demo.int8.onnx demo.int8.mlpackage@coreml-reference --val-data val --limit 200"""


@dataclass(frozen=True)
class Answered:
    """A file in an engine: top-1 in percent, and its answers, int64 (pictures,)."""

    file: str
    engine: str
    top1: float
    answers: npt.NDArray[np.int64]


def answered(named: str, folder: Path, limit: int | None) -> Answered:
    """Every picture of the class folders in `folder`, or `limit` of them spread over all classes, through the file FILE[@RUNTIME]."""
    path, _, runtime = named.partition("@")
    with Classifier(path, runtime or None) as classifier:
        images = labeled(folder, classifier.labels)
        chosen = slice(None, None, 1 if limit is None else max(1, len(images.paths) // limit))
        paths, classes = images.paths[chosen][:limit], images.classes[chosen][:limit]
        answers = np.asarray(classifier.logits(paths).argmax(1), np.int64)
        return Answered(
            Path(path).name,
            str(classifier.describe()["engine"]),
            100 * float((answers == classes).mean()),
            answers,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.studies.agreement",
        "How often files of one model give the same answer.",
        _EXAMPLES,
    )
    made.add_argument(
        "files",
        nargs="+",
        metavar="FILE[@RUNTIME]",
        help="exported files of one model; two or more",
    )
    made.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures in folders named by WordNet id",
    )
    made.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only so many pictures, spread over the classes; default all",
    )
    made.add_argument(
        "--json", action="store_true", help="print one JSON object instead of the table"
    )
    options = made.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if len(options.files) < 2:
        raise RequestError("one file agrees with itself", "give two or more")
    if options.limit is not None and options.limit < 1:
        raise RequestError(f"--limit {options.limit} leaves no pictures", "give a number from 1")
    all_of_them = [answered(named, options.val_data, options.limit) for named in options.files]
    pairs = [
        [100 * float((a.answers == b.answers).mean()) for b in all_of_them] for a in all_of_them
    ]
    count = len(all_of_them[0].answers)
    if options.json:
        told = [{**asdict(one), "answers": one.answers.tolist()} for one in all_of_them]
        print(
            json.dumps(
                {"cpu": describe_cpu(), "pictures": count, "files": told, "agreement": pairs}
            )
        )
        return 0
    print(f"{describe_cpu()}; {count} pictures; percent of equal answers\n")
    print(
        f"| | engine | top-1 | {' | '.join(str(i + 1) for i in range(len(pairs)))} |\n{'|---' * (3 + len(pairs))}|"
    )
    for i, (one, row) in enumerate(zip(all_of_them, pairs)):
        print(
            f"| {i + 1}: {one.file} | {one.engine} | {one.top1:.1f} | {' | '.join(f'{share:.1f}' for share in row)} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
