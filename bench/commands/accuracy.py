"""tinyvit-bench accuracy: how right files are, on labeled pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import positive_int
from tinyvit.errors import RequestError

if TYPE_CHECKING:
    from tinyvit.bench.accuracy.options import EvaluationOptions
    from tinyvit.bench.accuracy.suite import EvaluationSuite
    from tinyvit.bench.record import AccuracyResult, Record

HELP = "how right exported files are, on ImageNet's validation images or your own"
EXAMPLES = """\
  tinyvit-bench accuracy demo.onnx --data val/                      # class folders, by WordNet id or label
  tinyvit-bench accuracy demo.onnx demo.int8.onnx --data val/ --contact-sheet worst.png
  tinyvit-bench accuracy tinyvit_5m.onnx --data ILSVRC2012_img_val.tar --truth ILSVRC2012_devkit_t12.tar.gz --resume val.journal
  tinyvit-bench accuracy mine.onnx --data val/ --preprocess-check"""
_SHOWN = 5
"""Classes of a table for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See the package."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="exported files of one model; the others are compared with the first",
    )
    add(
        "--data",
        required=True,
        metavar="PATH",
        help="class folders, a folder or .tar of files with --truth, or hf:REPO",
    )
    add(
        "--truth",
        type=Path,
        metavar="FILE",
        help="the classes of files that are in no class folders: ILSVRC's devkit, a .csv, real.json",
    )
    add("--limit", type=positive_int, metavar="N", help="so many pictures, evenly from the classes")
    add(
        "--only-known-classes",
        action="store_true",
        help="leave out pictures of classes that the model does not have",
    )
    add(
        "--preprocess",
        choices=("artifact", "paper", "timm"),
        default="artifact",
        help="the file's own, the paper's evaluation, or timm's",
    )
    add(
        "--preprocess-check",
        action="store_true",
        help="try the usual wrong ways to prepare pictures (on 500), and say if one is better",
    )
    add("--reference", metavar="FILE", help="compare with this file, not with the first")
    add(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="draw the pictures that are wrong; of two files, those that went from right to wrong",
    )
    add("--answers", action="store_true", help="keep every picture's best class in the record")
    add("--runtime", metavar="R", help="the engine (the best installed one)")
    add(
        "--device",
        default="auto",
        metavar="D",
        help="cpu, gpu, npu, or the engine's own name; default cpu where it has one",
    )
    add(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads of the engine (its own default)",
    )
    add(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep what was answered there, and go on from it after an interruption",
    )
    add(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="share the work on a Ray cluster (on this machine, where no address is given)",
    )
    add("--progress", action="store_true", help="show progress also where stderr is no terminal")
    add("--name", metavar="NAME", help="of the device, in the record, instead of its own")
    add(
        "--json",
        action="store_true",
        help="print one record, for tinyvit-bench report and compare, instead of tables",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where a file could not be measured."""
    from tinyvit.bench.accuracy.datasets import Place, open_dataset
    from tinyvit.bench.accuracy.preprocess_check import PICTURES
    from tinyvit.bench.accuracy.suite import checked, evaluate_all

    _check(args)
    dataset = open_dataset(
        Place(args.data, args.truth, args.limit or (PICTURES if args.preprocess_check else None))
    )
    print(dataset.source, file=sys.stderr)
    if args.preprocess_check:
        return _print(
            checked(args.files[0], dataset, _asked(args), args.name), args.json, ways=True
        )
    found = evaluate_all(
        args.files,
        dataset,
        _asked(args),
        reference=args.reference,
        name=args.name,
        keep_answers=args.answers,
    )
    if args.contact_sheet:
        _draw(found, args.contact_sheet)
    return _print(found.record, args.json)


def _check(args: argparse.Namespace) -> None:
    """Raise RequestError for what does not go together, before anything is measured."""
    if args.preprocess_check:
        if len(args.files) > 1:
            raise RequestError("--preprocess-check looks at one file", "give one")
        unused = [
            name
            for name in ("reference", "contact_sheet", "resume", "answers")
            if getattr(args, name)
        ]
        unused += ["ray"] if args.ray is not None else []
        if unused:
            said = " and ".join(f"--{name.replace('_', '-')}" for name in unused)
            raise RequestError(
                f"--preprocess-check knows no {said}", f"leave out {said}, or --preprocess-check"
            )
    if args.contact_sheet and len({*args.files, *([args.reference] if args.reference else [])}) > 2:
        raise RequestError(
            "a contact sheet is of one file, or of one against one", "give one file, or two"
        )


def _asked(args: argparse.Namespace) -> EvaluationOptions:
    from tinyvit.bench.accuracy.options import EvaluationOptions

    def write(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)

    shown = args.progress or sys.stderr.isatty()
    meter = write if shown else None
    return EvaluationOptions(
        args.runtime,
        args.device,
        args.threads,
        args.preprocess,
        args.only_known_classes,
        args.resume,
        meter,
        args.ray,
    )


def _draw(found: EvaluationSuite, path: Path) -> None:
    from tinyvit.bench.accuracy.contact_sheet import draw

    others = [one for one in found.looked if one is not found.reference]
    if len(others) != 1:
        raise RequestError(
            "a contact sheet is of one file, or of one against one", "give one file, or two"
        )
    count = draw(others[0], found.reference, path)
    print(
        f"{path}: {count} pictures" if count else "no picture is wrong: no contact sheet",
        file=sys.stderr,
    )


def _print(record: Record, as_json: bool, ways: bool = False) -> int:
    for refusal in record.refusals:
        print(f"error: {refusal}", file=sys.stderr)
    print(record.to_json() if as_json else "\n".join(_ways(record) if ways else lines(record)))
    return 1 if record.refusals else 0


def lines(record: Record) -> list[str]:
    """What people read: warnings first, then the shares, then what changed."""
    said = [f"warning: {warning}" for warning in record.warnings]
    table = [
        "| file | engine | pictures | top-1 (95% interval) | top-5 | calibration error | pictures/s |",
        "|---" * 7 + "|",
    ]
    table += [_row(one) for one in record.accuracy]
    return [
        f"{record.data['source']}; {record.date}",
        *said,
        "",
        *table,
        *[line for one in record.accuracy for line in _changed(one)],
    ]


def _row(one: AccuracyResult) -> str:
    images = f"{one.images}" + (f" of {one.total}" if one.images != one.total else "")
    low, high = one.top1_interval
    cells = (
        Path(one.subject.artifact).name,
        str(one.subject.engine.get("engine")),
        images,
        f"{one.top1:.2f}% ({low:.1f} to {high:.1f})",
    )
    return f"| {' | '.join(cells)} | {one.top5:.2f}% | {one.calibration_error:.1f}% | {one.images_per_s:.1f} |"


def _changed(one: AccuracyResult) -> list[str]:
    if one.against is None:
        return []
    a = one.against
    found = [
        "",
        f"{Path(one.subject.artifact).name} against {Path(a.to).name}: {a.agreement:.2f}% the same answer; "
        f"{a.worse} went from right to wrong, {a.better} from wrong to right (McNemar's p {a.p:.2g})",
    ]
    lost = [
        row
        for row in one.classes
        if row.reference_top1 is not None and row.top1 < row.reference_top1
    ][:_SHOWN]
    return found + [
        f"  {row.reference_top1:.1f}% -> {row.top1:.1f}% of {row.images}  {row.label}  {row.wnid}".rstrip()
        for row in lost
    ]


def _ways(record: Record) -> list[str]:
    table = ["| prepared | top-1 | became right | became wrong | p |", "|---" * 5 + "|"]
    for one in record.accuracy:
        a = one.against
        table.append(
            f"| {one.preprocess} | {one.top1:.2f}% | "
            + (f"{a.better} | {a.worse} | {a.p:.2g} |" if a else " | | |")
        )
    return [f"{record.data['source']}; {record.date}", "", *table, "", *record.warnings]
