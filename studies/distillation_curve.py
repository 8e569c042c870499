r"""Compares training with and without a teacher's saved predictions: accuracy against CPU hours.

    python -m tinyvit.studies.distillation_curve --data train/ --val-data val/ --teacher TEACHER \
        -o curve/

Two students of the same size begin with random weights and see equally many images of the same
folder. One learns from the class labels only. The other also learns from the predictions of a
teacher, which are saved first (the paper's fast distillation). The command writes three files into
the output folder: record.json with all figures, page.md with the table for docs/results, and
curve.svg.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill import cli as distill
from tinyvit.distill.training.run.folder import STATE_FILE
from tinyvit.errors import RequestError
from tinyvit.files.file_io import write_atomically
from tinyvit.nn.checkpoints.tensor_files.resumable_state import read_state_file
from tinyvit.openmp import use_passive_waiting
from tinyvit.processes.allocator import keep_freed_memory
from tinyvit.studies.line_pictures import COLORS, export_svg, style_axes, use_style
from tinyvit.text.plurals import format_count

STUDENT = "tiny_vit_5m_224"
_AUGMENTATION = ("scale=[0.25, 1.0]", "operations=1", "erase=0.1")
"""Settings of the augmentation, the same in both runs."""
_SETTINGS = ("ema_decay=0.998", "layer_decay=1.0", "min_lr=1e-5", "val_split=0")
"""Settings of both runs that differ from the preset "transfer", which is for trained networks."""
_TEACHER_SETTINGS = ("label_weight=0.5", "label_smoothing=0.05")
"""Settings of the run with a teacher only. They are those of examples/train-demo."""
_EXAMPLES = """\
  python -m tinyvit.studies.distillation_curve --data imagenette/train --val-data imagenette/val \\
      --teacher examples/train-demo/teacher.py:make_teacher -o curve/"""


@dataclass(frozen=True)
class Curve:
    """The accuracy of one student during its training.

    Attributes:
        name: What the student learns from.
        top1: Top-1 accuracy in percent on the validation images after each epoch.
        training_cpu_hours: CPU time of the whole run, with its evaluations and data loading.
        saving_cpu_hours: CPU time of saving the teacher's predictions before the run; 0 without.
    """

    name: str
    top1: tuple[float, ...]
    training_cpu_hours: float
    saving_cpu_hours: float = 0.0

    def list_points(self) -> list[tuple[float, float]]:
        """List the CPU hours until the end of each epoch, without saving, and the accuracy."""
        hours_per_epoch = self.training_cpu_hours / len(self.top1)
        return [(hours_per_epoch * epoch, top1) for epoch, top1 in enumerate(self.top1, 1)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Command-line arguments; None takes those of the process.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.distillation_curve",
        "Compare training with and without a teacher's saved predictions.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="training images, class folders")
    add("--val-data", type=Path, required=True, metavar="DIR", help="validation images, likewise")
    add("--teacher", required=True, help="the teacher, as in tinyvit-distill save-logits")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--img-size", type=positive_int, default=96, help="image size in pixels (default: 96)")
    add("--epochs", type=positive_int, default=16, help="epochs of each run (default: 16)")
    add("--batch", type=positive_int, default=64, help="images per step (default: 64)")
    add("--threads", type=positive_int, default=1, help="threads of torch (default: 1)")
    add(
        "--saved-epochs",
        type=positive_int,
        default=6,
        help="epochs of views for which predictions are saved (default: 6); later epochs of the "
        "run use the same views again",
    )
    if argv is None:
        keep_freed_memory()
        use_passive_waiting()
    return run_guarded(partial(_compare, parser.parse_args(argv)))


def _compare(arguments: argparse.Namespace) -> int:
    """Train both students, and write the results."""
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=False)
    store = output / "store"
    labels_hours = _run(_make_training_command(arguments, "labels", ()))
    saving_hours = _run(_make_saving_command(arguments, store))
    options = ("--logits", str(store), *_repeat_option("--set", _TEACHER_SETTINGS))
    teacher_hours = _run(_make_training_command(arguments, "teacher", options))
    curves = (
        Curve("class labels", _read_accuracies(output / "labels"), labels_hours),
        Curve(
            "class labels and saved predictions",
            _read_accuracies(output / "teacher"),
            teacher_hours,
            saving_hours,
        ),
    )
    record = {
        "date": date.today().isoformat(),
        "cpu": describe_cpu(),
        "teacher": Path(arguments.teacher).name,
        "images": len(read_image_folder(arguments.data)),
        "validation_images": len(read_image_folder(arguments.val_data)),
        "img_size": arguments.img_size,
        "saved_epochs": arguments.saved_epochs,
        "threads": arguments.threads,
        "curves": [asdict(curve) for curve in curves],
    }
    write_atomically(output / "record.json", json.dumps(record, indent=1).encode() + b"\n")
    write_atomically(output / "page.md", format_page(record).encode())
    write_atomically(output / "curve.svg", draw_curves(curves))
    return 0


def _make_training_command(
    arguments: argparse.Namespace, folder: str, options: Sequence[str]
) -> list[str]:
    augmentation = () if options else tuple(f"augmentation.{value}" for value in _AUGMENTATION)
    return [
        "train",
        *("--data", str(arguments.data), "--val-data", str(arguments.val_data)),
        *("--student", STUDENT, "--img-size", str(arguments.img_size), "--license", "MIT"),
        *("--preset", "transfer", "--epochs", str(arguments.epochs), "--lr", "8e-3"),
        *("--batch", str(arguments.batch), "--threads", str(arguments.threads), "--workers", "1"),
        *_repeat_option("--set", _SETTINGS + augmentation),
        *options,
        *("-o", str(arguments.output / folder)),
    ]


def _make_saving_command(arguments: argparse.Namespace, store: Path) -> list[str]:
    return [
        "save-logits",
        *("--data", str(arguments.data), "--teacher", arguments.teacher, "--top-k", "20"),
        *("--epochs", str(arguments.saved_epochs), "--threads", str(arguments.threads)),
        *_repeat_option("--set", _AUGMENTATION),
        *("-o", str(store)),
    ]


def _repeat_option(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _run(command: Sequence[str]) -> float:
    """Run a subcommand of tinyvit-distill, and return its CPU time in hours."""
    start = _read_cpu_seconds()
    if distill.main(command) != 0:
        raise RequestError("a step of the comparison failed", "correct the error printed above")
    return (_read_cpu_seconds() - start) / 3600


def _read_cpu_seconds() -> float:
    """Return the CPU time of this process and of its ended children, such as loading workers."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _read_accuracies(run_folder: Path) -> tuple[float, ...]:
    history = read_state_file(run_folder / STATE_FILE)["progress"]["history"]
    return tuple(float(summary["top1"]) for summary in history)


def format_page(record: dict[str, Any]) -> str:
    """Format the comparison as a page for docs/results.

    Args:
        record: The content of record.json. Both curves have equally many epochs.

    Returns:
        The page, in Markdown.
    """
    labels, teacher = (Curve(**curve) for curve in record["curves"])
    threads = format_count(record["threads"], "thread")
    lines = [
        "# Training with and without a teacher",
        "",
        f"{STUDENT} from random weights at {record['img_size']} pixels, {record['images']} "
        f"training images and {record['validation_images']} validation images; teacher: "
        f"`{record['teacher']}`. {record['cpu']}, {threads}, {record['date']}.",
        "",
        "This page is written by `python -m tinyvit.studies.distillation_curve`. CPU hours are "
        "those of training, with data loading and evaluation. Saving the teacher's predictions for "
        f"{record['saved_epochs']} epochs took another {teacher.saving_cpu_hours:.2f} CPU hours, "
        "once for any number of students.",
        "",
        "![Accuracy against CPU hours](../images/distillation-curve.svg)",
        "",
        "| epoch | CPU hours, labels | top-1, labels | CPU hours, with predictions | top-1, with "
        "predictions |",
        "|---|---|---|---|---|",
    ]
    for epoch, points in enumerate(zip(labels.list_points(), teacher.list_points()), 1):
        cells = (f"{hours:.2f} | {top1:.1f}%" for hours, top1 in points)
        lines.append(f"| {epoch} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_curves(curves: Sequence[Curve]) -> bytes:
    """Draw accuracy against CPU hours, with and without the time of saving predictions.

    Args:
        curves: The curves.

    Returns:
        An SVG image whose colors are legible on light and on dark pages.
    """
    from matplotlib.figure import Figure

    with use_style("curve"):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for curve, color in zip(curves, COLORS):
            hours, top1 = zip(*curve.list_points())
            axes.plot(hours, top1, color=color, marker="o", markersize=3, label=curve.name)
            if curve.saving_cpu_hours:
                later = [hour + curve.saving_cpu_hours for hour in hours]
                label = f"{curve.name}, with saving them"
                axes.plot(later, top1, color=color, linestyle="--", linewidth=1, label=label)
        style_axes(axes, "CPU hours", "top-1, validation images (%)")
        axes.legend(frameon=False)
        return export_svg(figure)


if __name__ == "__main__":
    raise SystemExit(main())
