"""Runs a program with limits on its time and on what it prints and writes.

Every program that this package starts and whose output it reads runs here, because a program that
reads a hostile file can run without end, or print until the memory is full.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

MAX_ERROR_BYTES = 4000
"""Maximum number of bytes that are kept from the end of standard error."""

_FIRST_WINDOWS_ERROR = 0xC0000000
"""On Windows, exit codes from here on, such as 0xC0000005, mean that the system ended the process.
"""

_BLOCK_BYTES = 2**16
"""Number of bytes that are read from a pipe at a time."""
_PIPE_END_S = 1.0
"""Seconds to wait for the end of a pipe after the end of the process."""


class ProcessLimitError(ValueError):
    """A process exceeded a limit and was killed.

    The message is what the process did, such as "took more than 5 s".
    """


@dataclass(frozen=True)
class RunLimits:
    """Limits on a process.

    Attributes:
        seconds: Longest time that it may take, including its start.
        output_bytes: Largest number of bytes that it may print on standard output. Standard error
            has no limit, because only its last `MAX_ERROR_BYTES` bytes are kept.
        file_bytes: Largest size of a file that it writes, in bytes; None for no limit. Linux
            enforces it, and ends the process; macOS and Windows do not.
    """

    seconds: float
    output_bytes: int
    file_bytes: int | None = None


@dataclass(frozen=True)
class EndedProcess:
    """A process that has ended by itself.

    Attributes:
        exit_code: Its exit code, which `describe_crash` interprets.
        stdout: Everything that it printed on standard output.
        stderr: The end of what it printed on standard error, at most `MAX_ERROR_BYTES` bytes.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


def run_bounded(
    command: Sequence[str],
    limits: RunLimits,
    stdin: IO[bytes] | bytes = b"",
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> EndedProcess:
    """Run a program until it ends, and kill it if it exceeds a limit.

    Another process that it started can keep its pipes open after its end. This is waited for until
    the time limit for standard output, and not for standard error, which ssh's master keeps open.

    Args:
        command: The program and its arguments.
        limits: Limits on the process.
        stdin: Standard input of the program: a file, or the content. With a limit on the size of
            files, it cannot be a file.
        cwd: Working directory of the program; the current one if None.
        environment: Environment variables of the program; those of this process if None.

    Returns:
        The exit code and the output.

    Raises:
        OSError: The program cannot be started.
        ValueError: A word of the command contains a null character.
        ProcessLimitError: The process exceeded a limit.
    """
    if limits.file_bytes is not None and os.name == "posix":
        assert isinstance(stdin, bytes)
        command, stdin = _wait_for_line(command), b"\n" + stdin
    content = stdin if isinstance(stdin, bytes) else b""
    pipe_or_file = subprocess.PIPE if content else subprocess.DEVNULL
    process = subprocess.Popen(
        list(command),
        stdin=pipe_or_file if isinstance(stdin, bytes) else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=environment,
    )
    assert process.stdout is not None  # both are pipes
    assert process.stderr is not None
    stdout = _PipeReader(process.stdout, limits.output_bytes + 1, keeps_end=False)
    stderr = _PipeReader(process.stderr, MAX_ERROR_BYTES, keeps_end=True)
    try:
        if limits.file_bytes is not None:
            _limit_file_size(process.pid, limits.file_bytes)
        if process.stdin is not None:
            _PipeWriter(process.stdin, content).start()
        has_timed_out = _wait_for_end(process, stdout, limits)
    finally:
        process.kill()  # an exception, such as KeyboardInterrupt, must not leave it running
        process.wait()
    for reader in (stdout, stderr):
        reader.join(_PIPE_END_S)
    if len(stdout.content) > limits.output_bytes:
        raise ProcessLimitError(f"printed more than {_describe_bytes(limits.output_bytes)}")
    if has_timed_out:
        raise ProcessLimitError(f"took more than {limits.seconds:g} s")
    return EndedProcess(process.returncode, bytes(stdout.content), bytes(stderr.content))


def describe_crash(exit_code: int) -> str | None:
    """Describe how the system ended a process.

    Args:
        exit_code: Exit code of the process, as Python reports it.

    Returns:
        Words such as "signal 11", or on Windows "error 0xC0000005"; None if the process ended by
        itself.
    """
    if exit_code < 0:
        return f"signal {-exit_code}"
    return f"error 0x{exit_code:08X}" if exit_code >= _FIRST_WINDOWS_ERROR else None


def _describe_bytes(count: int) -> str:
    """Return a number of bytes as text, such as "16 MiB"."""
    return f"{count >> 20} MiB" if count >= 2**20 else f"{count} bytes"


def _wait_for_end(process: subprocess.Popen[bytes], stdout: _PipeReader, limits: RunLimits) -> bool:
    """Wait until a process has ended or exceeds a limit; return whether its time is over."""
    end_s = time.monotonic() + limits.seconds
    stdout.join(limits.seconds)
    if stdout.is_alive():
        return True
    if len(stdout.content) <= limits.output_bytes:
        try:
            process.wait(max(0, end_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            return True
    return False


def _wait_for_line(command: Sequence[str]) -> list[str]:
    """Return a command that reads a line, and then becomes another command in the same process.

    So the process can be limited before the program starts. `read` takes no more than the line.

    Raises:
        OSError: There is no such program.
    """
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    return ["/bin/sh", "-c", 'read -r _; exec "$@"', "sh", *command]


def _limit_file_size(process_id: int, max_bytes: int) -> None:
    """Limit the size of the files that a process writes, and of its core dump, on Linux."""
    with suppress(ImportError, AttributeError, OSError):  # other systems; the process has ended
        import resource

        resource.prlimit(process_id, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(process_id, resource.RLIMIT_FSIZE, (max_bytes, max_bytes))


class _PipeWriter(threading.Thread):
    """Writes the standard input of a process in its own thread, and closes it."""

    def __init__(self, pipe: IO[bytes], content: bytes) -> None:
        super().__init__(daemon=True)
        self._pipe, self._content = pipe, content

    def run(self) -> None:
        """Write everything, as far as the process reads it. The thread runs this method."""
        with suppress(OSError), self._pipe as pipe:
            pipe.write(self._content)


class _PipeReader(threading.Thread):
    """Reads a pipe in its own thread, and keeps a limited part of the content.

    Attributes:
        content: The part that is kept.
    """

    def __init__(self, pipe: IO[bytes], max_bytes: int, keeps_end: bool) -> None:
        """Start reading.

        Args:
            pipe: The pipe, which is closed at its end.
            max_bytes: Number of bytes that are kept.
            keeps_end: Whether the end of the content is kept, however long it is. Otherwise,
                reading ends as soon as `max_bytes` bytes are read.
        """
        super().__init__(daemon=True)
        self.content = bytearray()
        self._pipe = pipe
        self._max_bytes = max_bytes
        self._keeps_end = keeps_end
        self.start()

    def run(self) -> None:
        """Read the pipe until its end, or until enough is kept. The thread runs this method."""
        with self._pipe as pipe:
            while block := os.read(pipe.fileno(), _BLOCK_BYTES):
                if self._keeps_end:
                    self.content = (self.content + block)[-self._max_bytes :]
                    continue
                self.content += block[: self._max_bytes - len(self.content)]
                if len(self.content) == self._max_bytes:
                    return
