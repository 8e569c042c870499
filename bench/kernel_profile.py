"""Measures the share of a network's multiply-accumulates that an engine runs in integer kernels.

    python -m tinyvit.bench.kernel_profile FILE [--runtime NAME] [--threads N] [--json]

The share is computed from the engine's own report of the kernels that it executed. The file alone
does not show the share: if an engine cannot fuse the file's quantize and dequantize nodes with the
layers between them, it computes in floating point. Multiply-accumulates (MACs) are counted from the
shapes of tensors, so that the share does not depend on timing. Only the engine's own package is
needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.profilers import ExecutedNode, get_profiler, profiler_names
from tinyvit.bench.report.console import format_table_row
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import known_suffixes, read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format, open_runtime
from tinyvit.text.safe_text import print_lines

_PROGRAM = "python -m tinyvit.bench.kernel_profile"
_EXAMPLES = f"""\
  {_PROGRAM} demo.int8.onnx
  {_PROGRAM} demo.int8.onnx --runtime openvino --json"""


@dataclass(frozen=True)
class KernelGroup:
    """All nodes of a network that an engine executed with the same kernel.

    Attributes:
        name: The engine's name of the kernel.
        node_count: Number of nodes.
        macs: Multiply-accumulates of all these nodes for one batch; 0 if they are neither matrix
            products nor convolutions.
        is_integer: Whether the kernel multiplies integers.
        time_ms: Time of all these nodes in one run, slowed a little by the profiler.
    """

    name: str
    node_count: int
    macs: int
    is_integer: bool
    time_ms: float


@dataclass(frozen=True)
class KernelProfile:
    """The kernels with which an engine executed an artifact.

    Attributes:
        engine: Name of the engine.
        kernels: One group of nodes per kernel; the kernel with the most multiply-accumulates is
            first.
    """

    engine: str
    kernels: tuple[KernelGroup, ...]

    @property
    def integer_macs(self) -> int:
        """The number of multiply-accumulates in integer kernels."""
        return sum(kernel.macs for kernel in self.kernels if kernel.is_integer)

    @property
    def float_macs(self) -> int:
        """The number of multiply-accumulates in floating-point kernels."""
        return sum(kernel.macs for kernel in self.kernels if not kernel.is_integer)

    @property
    def integer_share(self) -> float:
        """The share of multiply-accumulates in integer kernels, 0 to 1; 0 if there are none."""
        return self.integer_macs / max(1, self.integer_macs + self.float_macs)


def profile_kernels(
    path: Path,
    threads: int = 2,
    engine_name: str | None = None,
    allow_foreign_operators: bool = False,
) -> KernelProfile:
    """Run an artifact on random input, and count its multiply-accumulates per kernel.

    The arguments, and the errors that are raised, are those of `list_nodes`.

    Returns:
        The kernels, with the number of multiply-accumulates of each.
    """
    engine, all_nodes = list_nodes(path, threads, engine_name, allow_foreign_operators)
    nodes_by_kernel: dict[tuple[str, bool], list[ExecutedNode]] = defaultdict(list)
    for node in all_nodes:
        nodes_by_kernel[node.kernel_name, node.is_integer].append(node)
    kernels = [
        KernelGroup(
            name=kernel_name,
            node_count=len(nodes),
            macs=sum(node.macs for node in nodes),
            is_integer=is_integer,
            time_ms=sum(node.time_ms for node in nodes),
        )
        for (kernel_name, is_integer), nodes in nodes_by_kernel.items()
    ]
    kernels.sort(key=lambda kernel: (-kernel.macs, -kernel.time_ms))
    return KernelProfile(engine, tuple(kernels))


def list_nodes(
    path: Path,
    threads: int = 2,
    engine_name: str | None = None,
    allow_foreign_operators: bool = False,
) -> tuple[str, list[ExecutedNode]]:
    """Run an artifact on random input, and list the nodes that the engine executed.

    A dynamic batch size is set to 1. The artifact is first opened as `open_runtime` does it, which
    refuses hostile files.

    Args:
        path: Path of the artifact.
        threads: Number of CPU threads.
        engine_name: One of `profiler_names()`; None for the best installed engine that opens the
            artifact's format.
        allow_foreign_operators: See `RuntimeOptions`.

    Returns:
        The name of the engine, and the nodes in the order of execution.

    Raises:
        RequestError: The engine cannot open the artifact, or does not report its kernels.
        MissingDependencyError: The engine is not installed.
        ArtifactError: The engine refuses the file, or some multiply-accumulates cannot be counted.
        ValueError: An .onnx file does not contain an ONNX model.
    """
    engines = engines_for_format(read_artifact(path).format)
    name = engine_name or engines[0]
    supported = [engine for engine in engines if engine in profiler_names()]
    if name not in supported:
        raise RequestError(
            f"{name} does not report which kernels it runs for {path.name}",
            f"use --runtime {' or '.join(supported)}"
            if supported
            else "export for another target; no engine reports its kernels for this format",
        )
    options = RuntimeOptions(threads=threads, allow_foreign_operators=allow_foreign_operators)
    open_runtime(path, name, options).close()
    return name, get_profiler(name)(path, threads)


def can_profile_kernels(path: Path) -> bool:
    """Return whether the best installed engine for an artifact reports which kernels it runs.

    Args:
        path: Path of the artifact.
    """
    best_engine = engines_for_format(read_artifact(path).format)[0]
    return best_engine in profiler_names()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        _PROGRAM,
        "List the kernels that an engine executes, and the share of multiply-accumulates that run"
        " in integer kernels.",
        _EXAMPLES,
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=f"exported model file ({known_suffixes()})"
    )
    parser.add_argument(
        "--runtime",
        metavar="NAME",
        help=f"engine: {', '.join(profiler_names())} (default: the best installed one)",
    )
    parser.add_argument(
        "--threads", type=positive_int, default=2, metavar="N", help="CPU threads (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    profile = profile_kernels(options.file, options.threads, options.runtime)
    if options.json:
        output = {
            "file": str(options.file),
            "cpu": describe_cpu(),
            "integer_share": profile.integer_share,
            "integer_macs": profile.integer_macs,
            "float_macs": profile.float_macs,
            **asdict(profile),
        }
        print_lines(json.dumps(output))
    else:
        print_lines(*_format_table(profile, options))
    return 0


def _format_table(profile: KernelProfile, options: argparse.Namespace) -> list[str]:
    """Return the lines of the output without --json."""
    total_macs = profile.integer_macs + profile.float_macs
    lines = [
        f"{describe_cpu()}; {profile.engine}, {options.threads} threads",
        "",
        f"{profile.integer_share:.1%} of {total_macs / 1e6:.0f} million multiply-accumulates ran in"
        " integer kernels",
        "",
        format_table_row((options.file.name, "nodes", "million MACs", "integer", "ms")),
        "|---|---|---|---|---|",
    ]
    for kernel in profile.kernels:
        integer_cell = "yes" if kernel.is_integer else "no"
        lines.append(
            format_table_row(
                (
                    kernel.name,
                    str(kernel.node_count),
                    f"{kernel.macs / 1e6:.1f}",
                    integer_cell if kernel.macs else "",
                    f"{kernel.time_ms:.2f}",
                )
            )
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
