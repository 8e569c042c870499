"""Calling a function in another process, with limits on its memory and its time.

Some libraries crash, or use any amount of memory, while they read damaged files. In another process
this cannot harm the program.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tinyvit.processes.limited_program import (
    ProcessLimitError,
    RunLimits,
    describe_crash,
    run_bounded,
)
from tinyvit.processes.python_process import make_python_command, read_last_line

_CODE = (
    "from tinyvit.processes.limited_function import answer_call;"
    " answer_call({module!r}, {name!r}, {max_memory_bytes!r})"
)
"""Python code that the other process executes."""

_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables for the number of threads of libraries of linear algebra. They reserve
memory for each thread, which counts towards the limit."""

MAX_RESULT_BYTES = 2**24
"""Largest result of a function in the other process, in bytes. The largest one, the table of
ImageNet's classes, has less than 1 MiB."""

_MAX_REASON_LENGTH = 200


@dataclass(frozen=True)
class ProcessLimits:
    """Limits on another process.

    Attributes:
        memory_bytes: Largest size of its address space, in bytes; None for no limit. Linux enforces
            it, macOS and Windows do not.
        seconds: Longest time that it may take, including its start.
    """

    memory_bytes: int | None
    seconds: int


def call_in_process(
    function: Callable[[bytes], bytes], argument: bytes, limits: ProcessLimits
) -> bytes:
    """Call a function in another process.

    Args:
        function: A public function of a module of this package.
        argument: Its argument.
        limits: Limits on the process.

    Returns:
        What the function returns.

    Raises:
        ValueError: The function raised an exception, or the process crashed or reached a limit. The
            message is a clause, in which "it" is what the function reads.
    """
    code = _CODE.format(
        module=function.__module__,
        name=function.__name__,
        max_memory_bytes=limits.memory_bytes,
    )
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
    try:
        process = run_bounded(
            make_python_command(code),
            RunLimits(limits.seconds, MAX_RESULT_BYTES),
            stdin=argument,
            environment=environment,
        )
    except ProcessLimitError as error:
        raise ValueError(f"the process that reads it {error}") from error
    if describe_crash(process.exit_code) is not None:
        raise ValueError("the library that reads it crashes")
    if process.exit_code != 0:
        raise ValueError(read_last_line(process.stderr, "no reason", _MAX_REASON_LENGTH))
    return process.stdout


def limit_memory_growth(more_bytes: int) -> None:
    """Limit how much the address space of this process may still grow, where the system allows it.

    Call this in a process of `call_in_process` after the import of large libraries, whose size
    differs from one release to the next.

    Args:
        more_bytes: Bytes by which the address space may grow.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except OSError:  # Linux has this file, macOS and Windows do not.
        return
    _limit_resources(pages * mmap.PAGESIZE + more_bytes)


def answer_call(module: str, name: str, max_memory_bytes: int | None) -> None:
    """Call a function with the bytes on standard input; write the result to standard output.

    `call_in_process` runs this function in the other process.

    Args:
        module: Name of the module of the function.
        name: Name of the function.
        max_memory_bytes: Largest size of the address space of this process; None for no limit.
    """
    function = getattr(import_module(module), name)
    _limit_resources(max_memory_bytes)
    try:
        result = function(sys.stdin.buffer.read())
    except Exception as error:
        # The last line of standard error is the reason.
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
    sys.stdout.buffer.write(result)


def _limit_resources(max_memory_bytes: int | None) -> None:
    """Limit the address space of this process, and prevent core dumps, where that is possible."""
    with suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if max_memory_bytes is not None:
            with suppress(ValueError, OSError):  # the limit of this process is already lower
                resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
