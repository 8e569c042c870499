"""Which kernels a file really ran in: the share of its multiply-accumulates that an engine did in integers.

    python -m tinyvit.bench.kernel_profile FILE [--runtime R] [--json]

Read from what the engine says it executed, never from the file's quantize and dequantize nodes: an engine that cannot fuse
them computes in float, and the file looks the same. Counted by shapes, so that the share does not depend on any clock.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyvit.bench import profilers as readers
from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.profilers import ExecutedKernel
from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import known_suffixes, open_artifact
from tinyvit.runtimes.registry import engines_for_format

_EXAMPLES = """\
  python -m tinyvit.bench.kernel_profile demo-int8.onnx
  python -m tinyvit.bench.kernel_profile demo-int8.onnx --runtime openvino --json"""


@dataclass(frozen=True)
class KernelGroup:
    """All nodes that ran in one kind of kernel: macs for one picture, ms the median over runs, slowed a little by the profiler.

    macs is 0 for kinds that multiply no matrices, and is_integer is then False.
    """

    name: str
    nodes: int
    macs: int
    is_integer: bool
    ms: float


@dataclass(frozen=True)
class KernelProfile:
    """What an engine ran a file in: its kernels, the most multiply-accumulates first."""

    engine: str
    kernels: tuple[KernelGroup, ...]

    @property
    def int8_macs(self) -> int:
        """Multiply-accumulates in integer kernels."""
        return sum(kernel.macs for kernel in self.kernels if kernel.is_integer)

    @property
    def float_macs(self) -> int:
        """Multiply-accumulates in all others."""
        return sum(kernel.macs for kernel in self.kernels if not kernel.is_integer)

    @property
    def share(self) -> float:
        """int8_macs of all, 0 to 1; 0 where there are none."""
        return self.int8_macs / max(1, self.int8_macs + self.float_macs)


def profile_kernels(path: Path, threads: int = 2, runtime: str | None = None) -> KernelProfile:
    """Run the file at `path` on noise and count in which kernels; a free batch is 1.

    runtime: an engine of `readers`, or None for the best installed one for the file's format. Raises RequestError for
    another one, MissingDependencyError (onnx is needed for onnxruntime's), ArtifactError for a file that the engine refuses,
    or whose multiply-accumulates cannot all be found.
    """
    able = engines_for_format(open_artifact(path).format)
    name = runtime or able[0]
    if name not in able or name not in readers.names():
        raise RequestError(
            f"the kernels of {path.name} in {name} are unknown",
            f"use --runtime {' or '.join(x for x in able if x in readers.names())}",
        )
    kinds: dict[tuple[str, bool], list[ExecutedKernel]] = defaultdict(list)
    for part in readers.reader(name)(path, threads):
        kinds[part.kind, part.is_integer].append(part)
    kernels = [
        KernelGroup(
            kind,
            len(parts),
            sum(part.macs for part in parts),
            is_integer,
            sum(part.ms for part in parts),
        )
        for (kind, is_integer), parts in kinds.items()
    ]
    return KernelProfile(
        name, tuple(sorted(kernels, key=lambda kernel: (-kernel.macs, -kernel.ms)))
    )


def can_profile_kernels(path: Path) -> bool:
    """Whether the best installed engine for the file's format tells what it executed."""
    return engines_for_format(open_artifact(path).format)[0] in readers.names()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.bench.kernel_profile",
        "Which kernels a file really ran in, and the share of integers.",
        _EXAMPLES,
    )
    made.add_argument(
        "file", type=Path, metavar="FILE", help=f"an exported file ({known_suffixes()})"
    )
    made.add_argument(
        "--runtime",
        metavar="R",
        help=f"the engine: {', '.join(readers.names())} (the best installed one)",
    )
    made.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = made.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    found = profile_kernels(options.file, options.threads, options.runtime)
    totals = {"share": found.share, "int8_macs": found.int8_macs, "float_macs": found.float_macs}
    if options.json:
        print(
            json.dumps(
                {"file": str(options.file), "cpu": describe_cpu(), **totals, **asdict(found)}
            )
        )
        return 0
    print(f"{describe_cpu()}; {found.engine}, {options.threads} threads\n")
    print(
        f"{found.share:.1%} of {(found.int8_macs + found.float_macs) / 1e6:.0f} million multiply-accumulates ran in integer kernels\n"
    )
    print(f"| {options.file.name} | nodes | million MACs | integer | ms |\n|---|---|---|---|---|")
    for kernel in found.kernels:
        integer = ("yes" if kernel.is_integer else "no") if kernel.macs else ""
        print(
            f"| {kernel.name} | {kernel.nodes} | {kernel.macs / 1e6:.1f} | {integer} | {kernel.ms:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
