"""Settings of OpenMP, with which torch divides its work among CPU cores.

OpenMP reads them when torch is imported, so the commands make them before that. By default, threads
that wait for others keep their cores busy. Beside other work, every step of torch then takes many
times as long, because the threads wait for cores that other waiting threads occupy.
"""

from __future__ import annotations

import argparse
import os
import sys

from tinyvit.cli import positive_int

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Environment variable with the number of threads, which OpenMP reads when it is loaded."""

_WAIT_POLICY_VARIABLE = "OMP_WAIT_POLICY"
_WAIT_VARIABLES = (_WAIT_POLICY_VARIABLE, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that determine how threads wait: that of the OpenMP standard, and those of
the libraries of GCC and of LLVM and Intel."""


def use_passive_waiting() -> None:
    """Let waiting threads sleep, unless the user has set how they wait.

    The setting is an environment variable, which has an effect if torch is not imported yet. Child
    processes have it too.
    """
    if not any(os.environ.get(variable) for variable in _WAIT_VARIABLES):
        os.environ[_WAIT_POLICY_VARIABLE] = "passive"


def add_threads_argument(parser: argparse._ActionsContainer) -> None:
    """Add the option --threads of commands that compute with torch.

    Args:
        parser: The parser, or a group of it.
    """
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="Number of CPU threads of PyTorch (default: one for each core, or OMP_NUM_THREADS)."
        " Beside other work, fewer threads than cores can be faster.",
    )


def set_thread_count(threads: int | None) -> None:
    """Set the number of CPU threads of torch, which is not imported for that.

    Args:
        threads: The number, at least 1; None changes nothing.
    """
    if threads is None:
        return
    torch = sys.modules.get("torch")
    if torch is None:
        os.environ[THREADS_VARIABLE] = str(threads)
    else:
        torch.set_num_threads(threads)
