"""One visit to a device: bundle there, an environment, the same commands as here, their JSON back, and nothing left behind."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit.bench.devices import bundle
from tinyvit.bench.devices.transport import CompletedCommand, Transport, refusal
from tinyvit.bench.record import Record
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.runtimes.artifact import detect_format
from tinyvit.runtimes.registry import engines_for_format, get_engine

_OLDEST = (3, 10)


@dataclass(frozen=True)
class RemoteMeasurement:
    """What to do there. data, images: of an accuracy run, so many pictures of class folders. python: to make the environment with;
    use_env: one that exists there instead. wheels: a folder here with everything to install, for devices without a network. arguments:
    more of `tinyvit-bench latency`. keep: leave the folder there."""

    paths: tuple[Path, ...]
    data: Path | None = None
    images: int = 500
    python: str = "python3"
    use_env: str | None = None
    wheels: Path | None = None
    runtime: str | None = None
    threads: int | None = None
    arguments: tuple[str, ...] = ()
    timeout_s: float = 3600
    keep: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came back, as far as it did. latency, accuracy: records. verified: a file's name -> what tinyvit-verify printed. problems:
    what failed, in words. kept: the folder that was left there, or may have been."""

    latency: Record | None
    accuracy: Record | None
    verified: dict[str, dict[str, Any]]
    problems: tuple[str, ...]
    kept: str | None


def measure_on_device(
    transport: Transport, asked: RemoteMeasurement, say: Callable[[str], object]
) -> Outcome:
    """Do it. Raises RequestError where nothing could be run there; what fails after that is in `problems`, beside what came back.

    say: is told each step.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = bundle.make(asked.paths, asked.data, asked.images, asked.wheels, Path(folder))
        problems: list[str] = []
        with _folder(transport, asked.keep, problems) as there:
            say(f"{transport.name}: {there}")
            transport.put(Path(folder), there)
            python = _environment(transport, asked, there, wheel, say)
            found = _measured(transport, asked, there, python, problems, say)
    return Outcome(
        *found,
        tuple(problems),
        there if asked.keep or any(there in line for line in problems) else None,
    )


@contextmanager
def _folder(transport: Transport, keep: bool, problems: list[str]) -> Iterator[str]:
    """A folder there, removed whatever happens; where it cannot be, `problems` says so."""
    there = transport.make_folder()
    try:
        yield there
    finally:
        if not keep:
            try:
                transport.remove(there)
            except TinyViTError as error:
                problems.append(f"{there} may be left on {transport.name} ({error.cause})")


def _environment(
    transport: Transport,
    asked: RemoteMeasurement,
    there: str,
    wheel: str,
    say: Callable[[str], object],
) -> str:
    """The Python to run with there."""
    python = f"{asked.use_env.rstrip('/')}/bin/python" if asked.use_env else asked.python
    done = transport.run([python, "-c", "import sys; print(*sys.version_info[:2])"], 120)
    if done.code:
        raise RequestError(
            f"{transport.name} has no {python} ({_last(done)})",
            "install Python there, or name it with --python or --use-env",
        )
    version = tuple(map(int, re.findall(r"\d+", done.stdout)[:2]))
    if version < _OLDEST:
        raise RequestError(
            f"{python} on {transport.name} is Python {'.'.join(map(str, version))}",
            "3.10 or later is needed: --python",
        )
    if asked.use_env:
        return python
    say(f"{transport.name}: making an environment")
    done = transport.run([python, "-m", "venv", "venv"], 600, there)
    if done.code:
        if "ensurepip" in done.stdout + done.stderr or "No module named venv" in done.stderr:
            raise RequestError(
                f"{transport.name} cannot make an environment: venv is missing",
                "there: sudo apt-get install python3-venv",
            )
        raise refusal(transport.name, done, "an environment cannot be made")
    source = ["--no-index", "--find-links", bundle.WHEELS] if asked.wheels else []
    wanted = [f"./{wheel}", *_engines(asked)]
    done = transport.run(
        [
            "venv/bin/python",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *source,
            *wanted,
        ],
        asked.timeout_s,
        there,
    )
    if done.code:
        raise refusal(transport.name, done, "the package cannot be installed")
    return f"{there}/venv/bin/python"


def _engines(asked: RemoteMeasurement) -> list[str]:
    """What pip must bring besides the package, by the name of the module that is needed."""
    names = {asked.runtime or engines_for_format(detect_format(path))[0] for path in asked.paths}
    return sorted(
        {get_engine(name).PACKAGE.replace("_", "-") for name in names if get_engine(name).EXTRA}
    )


def _measured(
    transport: Transport,
    asked: RemoteMeasurement,
    there: str,
    python: str,
    problems: list[str],
    say: Callable[[str], object],
) -> tuple[Record | None, Record | None, dict[str, dict[str, Any]]]:
    names = [path.name for path in asked.paths]
    chosen = [
        *(["--runtime", asked.runtime] if asked.runtime else []),
        *(["--threads", str(asked.threads)] if asked.threads else []),
    ]
    bench = [python, "-m", "tinyvit.bench.cli"]
    latency = accuracy = None
    verified: dict[str, dict[str, Any]] = {}
    try:
        for name in names:
            say(f"{transport.name}: verifying {name}")
            code = "import sys; from tinyvit.runtimes.cli import verify; sys.exit(verify())"
            done = transport.run(
                [python, "-c", code, name, *chosen, "--json"], asked.timeout_s, there
            )
            verified[name] = _object(done, f"tinyvit-verify {name}", problems)
        say(f"{transport.name}: timing")
        latency = _record(
            transport.run(
                [*bench, "latency", *names, *chosen, *asked.arguments, "--json"],
                asked.timeout_s,
                there,
            ),
            "latency",
            problems,
        )
        if asked.data is not None:
            say(f"{transport.name}: counting right answers")
            command = [*bench, "accuracy", *names, *chosen, "--data", bundle.PICTURES, "--json"]
            accuracy = _record(transport.run(command, asked.timeout_s, there), "accuracy", problems)
    except TinyViTError as error:
        problems.append(str(error))
    return latency, accuracy, {name: said for name, said in verified.items() if said}


def _record(done: CompletedCommand, what: str, problems: list[str]) -> Record | None:
    try:
        return Record.from_json(done.stdout.strip(), f"what {what} printed there")
    except TinyViTError as error:
        problems.append(f"{what} failed: {_last(done) if done.code else error}")
        return None


def _object(done: CompletedCommand, what: str, problems: list[str]) -> dict[str, Any]:
    try:
        said = json.loads(done.stdout)
        if not isinstance(said, dict) or not isinstance(said.get("passed"), bool):
            raise ValueError("no verdict")
    except (ValueError, RecursionError):
        problems.append(f"{what} failed: {_last(done)}")
        return {}
    if not said["passed"]:
        problems.append(f"{what}: {'; '.join(map(str, said.get('reasons', [])))}")
    return said


def _last(done: CompletedCommand) -> str:
    return (done.stderr.strip().splitlines() or [f"exit code {done.code}"])[-1][:300]
