"""Defines the options of a measurement on another device: one with Python, or an Android device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SessionConfig:
    """The options of a measurement on a device that has Python.

    Attributes:
        paths: Paths of the artifacts on this machine.
        data: Folder on this machine with one folder of images per class, to measure accuracy too;
            None to measure only latency.
        image_count: Number of images of `data` to send, drawn evenly from the classes.
        python: Python program on the device, which creates the environment.
        use_env: Folder of an environment on the device that has this package. It is used instead of
            a new one; None to create one.
        wheels: Folder on this machine with the wheels of all dependencies, which are sent to a
            device without a network; None if the device can download them.
        engine_name: Name of the engine; None for the best one for each artifact.
        threads: Number of CPU threads; None for the engine's default.
        latency_arguments: Further arguments of `tinyvit-bench latency`.
        timeout_s: Time limit of each command on the device.
        keep_folder: Whether to keep the temporary folder on the device.
    """

    paths: tuple[Path, ...]
    data: Path | None = None
    image_count: int = 500
    python: str = "python3"
    use_env: str | None = None
    wheels: Path | None = None
    engine_name: str | None = None
    threads: int | None = None
    latency_arguments: tuple[str, ...] = ()
    timeout_s: float = 3600
    keep_folder: bool = False


@dataclass(frozen=True)
class AndroidConfig:
    """The options of a measurement on an Android device.

    Attributes:
        paths: Paths of the artifacts on this machine.
        runner: Path of the benchmark program on this machine; it is built for the device.
        threads: Number of CPU threads for artifacts that run on the CPU.
        runs: Number of inferences to time per artifact.
        timeout_s: Time limit per artifact.
        libraries: Shared libraries that are copied beside the program, from
            `runner_libraries.find_libraries`.
    """

    paths: tuple[Path, ...]
    runner: Path
    threads: int
    runs: int
    timeout_s: float
    libraries: tuple[Path, ...] = ()
