"""Runs all parts of the study and writes the record."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import RequestError
from tinyvit.studies.gpu.latency import measure_latency
from tinyvit.studies.gpu.loops import measure_loops
from tinyvit.studies.gpu.losses import measure_losses
from tinyvit.studies.gpu.record import Part, Record
from tinyvit.studies.gpu.settings import PARTS, Settings, full_settings, quick_settings
from tinyvit.studies.gpu.steps import measure_steps
from tinyvit.studies.gpu.storing import measure_storing

_EXAMPLES = "  python -m tinyvit.studies.gpu --out gpu.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study.

    Args:
        argv: Command-line arguments; None takes those of the process.

    Returns:
        The exit code: 1 if a check or a measurement failed.
    """
    parser = make_parser(
        "python -m tinyvit.studies.gpu",
        "Measure training, latency and logits storing on a machine with an NVIDIA GPU.",
        _EXAMPLES,
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="JSON file to write the record to"
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="device to measure; cpu needs --quick and a machine without a GPU (default: cuda)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run every part with tiny sizes, to check that the script works",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PART",
        choices=PARTS,
        help="run only this part; repeat the option for several parts (loops needs storing)",
    )
    args = parser.parse_args(argv)
    return run_guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    _check_device(args)
    settings = quick_settings(args.device) if args.quick else full_settings()
    record = Record(args.out, asdict(settings), settings.total_s)
    with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
        for name, measure in _list_parts(settings, Path(folder)).items():
            if args.only and name not in args.only:
                continue
            part = record.begin_part(name, settings.budgets_s[name])
            part.run(measure)
    record.save()
    failures = [name for name, part in record.parts.items() if part.failed]
    print(f"failed: {', '.join(failures)}" if failures else "all checks passed", flush=True)
    return int(bool(failures))


def _check_device(args: argparse.Namespace) -> None:
    """Check that the device exists, and that all parts of the project would select it.

    Raises:
        RequestError: The device cannot be measured.
    """
    has_gpu = torch.cuda.is_available()
    if args.device == "cuda" and not has_gpu:
        raise RequestError(
            "--device cuda needs an NVIDIA GPU and a build of torch with CUDA",
            "run the study on such a machine, or add --device cpu --quick",
        )
    if args.device == "cpu" and not args.quick:
        raise RequestError("--device cpu would take hours", "add --quick")
    if args.device == "cpu" and has_gpu:
        raise RequestError(
            "--device cpu was given, but this machine has a GPU, which training selects",
            "set the environment variable CUDA_VISIBLE_DEVICES to an empty string",
        )


def _list_parts(settings: Settings, folder: Path) -> dict[str, Callable[[Part], None]]:
    """Return the functions that measure the parts, by name, in the order of measurement."""
    return {
        "losses": partial(measure_losses, settings),
        "steps": partial(measure_steps, settings),
        "latency": partial(measure_latency, "eager", settings),
        "compiled": partial(measure_latency, "compiled", settings),
        "storing": partial(measure_storing, settings, folder),
        "loops": partial(measure_loops, settings, folder),
    }


if __name__ == "__main__":
    raise SystemExit(main())
