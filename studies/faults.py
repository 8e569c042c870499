"""Kills int8 exports at random moments, and checks what they leave behind.

    python -m tinyvit.studies.faults [--kills N] [--seed N] [--img-size PIXELS]

The demo model is exported to one .onnx file in a temporary folder, again and again, and every
export is killed (SIGKILL, which no program can handle). Half of the exports replace an artifact.
Afterwards the output must be whole, or absent if it was absent before. At the end one export is
allowed to finish: it must remove everything that the killed ones left. The exit code is 1 if an
output was incomplete or something remained.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import ArtifactError, TinyViTError
from tinyvit.processes.python_process import make_module_command
from tinyvit.progress import Progress, make_progress
from tinyvit.runtimes.artifact import content_sha256, read_artifact
from tinyvit.studies.export_process import EXPORT_MODULE, run_export

_PROGRAM = "python -m tinyvit.studies.faults"
_CALIBRATION_IMAGES = 32
"""Number of random images that an export calibrates on."""
_COMMON_IMPORT_SHARE = 0.2
"""Share of an export's time that passes while Python imports its packages, roughly. Kills in this
part are rare, because nothing is written there."""


@dataclass
class KillCounts:
    """The counts of killed exports, by what they left behind.

    Attributes:
        kills: Number of exports that were killed.
        finished: Number of exports that ended before they were to be killed.
        without_output: Number of killed exports after which there was no output.
        whole: Number of killed exports after which the output was whole.
        incomplete: Number of killed exports after which the output was damaged, or was missing
            although it existed before.
        with_leftovers: Number of killed exports after which temporary files existed.
        remaining: Names of the temporary files that the last export, which was not killed, did not
            remove.
    """

    kills: int = 0
    finished: int = 0
    without_output: int = 0
    whole: int = 0
    incomplete: int = 0
    with_leftovers: int = 0
    remaining: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether no output was incomplete and nothing remained."""
        return not self.incomplete and not self.remaining


class KillableExport:
    """An int8 export of the demo model to one folder, as a command in a process of its own."""

    def __init__(self, folder: Path, img_size: int) -> None:
        """Write the calibration images.

        Args:
            folder: An empty folder for everything that the exports write.
            img_size: Image size of the export in pixels.
        """
        self.output_folder, self._temporary_folder = folder / "output", folder / "temporary"
        self.output = self.output_folder / "demo.onnx"
        for path in (self.output_folder, self._temporary_folder):
            path.mkdir()
        images = folder / "images.npz"
        shape = (2 * _CALIBRATION_IMAGES, img_size, img_size, 3)
        np.savez(images, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        self._options = (
            *("--model", "demo", "--img-size", str(img_size)),
            *("--int8", "--calib-data", str(images), "--calib-count", str(_CALIBRATION_IMAGES)),
            # Random images may be hard for int8, and accuracy does not matter here.
            *("--min-agreement", "0", "--overwrite", "-o", str(self.output)),
        )
        self._environment = {
            **os.environ,
            "TINYVIT_CACHE": str(folder / "cache"),
            "TMPDIR": str(self._temporary_folder),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start an export and return its process."""
        return subprocess.Popen(
            make_module_command(EXPORT_MODULE, *self._options),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> float:
        """Run an export to its end and return its duration in seconds.

        Raises:
            TinyViTError: The export failed.
        """
        start_s = time.perf_counter()
        reason = run_export(self._options, self._environment)
        if reason is not None:
            raise TinyViTError(f"the export failed ({reason})", "run the same export alone")
        return time.perf_counter() - start_s

    def is_whole(self) -> bool:
        """Return whether the output exists, can be read, and has the hash that it states."""
        try:
            manifest = read_artifact(self.output).manifest
        except ArtifactError:
            return False
        return manifest is not None and manifest.content_sha256 == content_sha256(self.output)

    def list_leftovers(self) -> tuple[str, ...]:
        """Return the names of temporary files and folders of this package that exist now."""
        in_output = [path.name for path in self.output_folder.iterdir() if path != self.output]
        in_temporary = [path.name for path in self._temporary_folder.glob(".tinyvit*")]
        return tuple(sorted(in_output + in_temporary))


def kill_exports(
    export: KillableExport,
    kills: int,
    random_moments: random.Random,
    progress: Progress,
    max_minutes: float = math.inf,
) -> KillCounts:
    """Kill exports at random moments, and check the output after each.

    Args:
        export: The export to repeat.
        kills: Number of exports to start and kill.
        random_moments: Source of the moments.
        progress: Receives the number of exports that were started.
        max_minutes: Time after which no further export is started to be killed.

    Returns:
        The counts of what the exports left behind.

    Raises:
        TinyViTError: An export that was not killed failed.
    """
    counts = KillCounts()
    end_s = time.monotonic() + 60 * max_minutes
    duration_s = export.finish()
    for number in range(kills):
        if time.monotonic() > end_s:
            break
        if number % 2:
            export.output.unlink(missing_ok=True)
        elif not export.output.exists():
            duration_s = export.finish()
        delay_s = random_moments.uniform(_COMMON_IMPORT_SHARE, 1.05) * duration_s
        complete_s = _kill_one(export, delay_s, counts)
        # On a machine that becomes less busy, later exports end before moments chosen by the first.
        duration_s = duration_s if complete_s is None else complete_s
        progress.advance("killing exports", number + 1, kills)
    export.finish()
    counts.remaining = export.list_leftovers()
    return counts


def _kill_one(export: KillableExport, delay_s: float, counts: KillCounts) -> float | None:
    """Kill one export after a delay in seconds, and count what it left.

    Returns:
        The duration of the export in seconds if it ended before; None if it was killed.
    """
    existed = export.output.exists()
    start_s = time.perf_counter()
    process = export.start()
    try:
        process.communicate(timeout=delay_s)
        counts.finished += 1
        return time.perf_counter() - start_s
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    counts.kills += 1
    counts.with_leftovers += bool(export.list_leftovers())
    if not export.output.exists():
        counts.without_output += not existed
        counts.incomplete += existed
    elif export.is_whole():
        counts.whole += 1
    else:
        counts.incomplete += 1
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code: 0 if every output was whole or absent and nothing remained, otherwise 1.
    """
    parser = make_parser(
        _PROGRAM, "Kill int8 exports at random moments, and check what remains.", f"  {_PROGRAM}"
    )
    add = parser.add_argument
    add(
        "--kills",
        type=positive_int,
        default=200,
        metavar="N",
        help="exports to kill (default: 200)",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the moments (default: 0)")
    add(
        "--img-size",
        type=positive_int,
        default=64,
        metavar="PIXELS",
        help="image size of the exported network (default: 64)",
    )
    add(
        "--max-minutes",
        type=float,
        default=math.inf,
        metavar="N",
        help="time after which no further export is killed (default: no limit)",
    )
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        export = KillableExport(Path(folder), options.img_size)
        moments = random.Random(options.seed)
        counts = kill_exports(export, options.kills, moments, make_progress(), options.max_minutes)
    print(
        f"{counts.kills} exports were killed, and {counts.finished} ended before.\n"
        f"Afterwards {counts.whole} outputs were whole, {counts.without_output} were absent as"
        f" before, and {counts.incomplete} were incomplete or lost.\n"
        f"{counts.with_leftovers} kills left temporary files; after the last export"
        f" {len(counts.remaining)} of them remained."
    )
    return 0 if counts.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
