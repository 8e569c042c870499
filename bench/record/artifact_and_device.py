"""The parts of a benchmark record that describe an artifact (exported model file) and a device."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit.runtimes.base import RuntimeInfo


@dataclass(frozen=True)
class DeviceInfo:
    """The machine on which the artifacts were measured.

    Attributes:
        name: Name that the user gave; otherwise the name of the board or the host.
        system: Name and release of the operating system.
        architecture: Architecture of the processor, such as "x86_64".
        cpu: Model name of the processor.
        cpu_features: Instruction sets of the processor that affect the speed, such as "AVX2".
        core_count: Number of processor cores that the process may use.
        memory_bytes: Physical memory; None if the system does not report it.
        governor: Linux's setting for the clock rate of the first core, such as "performance"; None
            if the system does not report it.
        clock_before_mhz: Clock rate of the first core before the measurement; None if the system
            does not report it.
        clock_after_mhz: Clock rate of the first core after the measurement; None if the system does
            not report it, or in an accuracy record.
    """

    name: str
    system: str
    architecture: str
    cpu: str
    cpu_features: tuple[str, ...]
    core_count: int
    memory_bytes: int | None
    governor: str | None
    clock_before_mhz: float | None
    clock_after_mhz: float | None = None


@dataclass(frozen=True)
class ArtifactInfo:
    """The artifact that was measured, and the engine that ran it.

    Attributes:
        path: Path of the artifact, as the user gave it.
        sha256: Hex digest of all files of the artifact, from `artifact_info.hash_artifact`.
        size_bytes: Size of all files of the artifact.
        model: Name of the model from the manifest; "" for a file without a manifest.
        precision: Precision from the manifest; "" for a file without a manifest.
        engine: Engine, version, device, threads and precision, as the engine reports them.
        int8_mac_share: Share of the multiply-accumulates (MACs) that ran in integer kernels, 0 to
            1, computed from the engine's profile; None if the engine reports no profile, and in an
            accuracy record.
    """

    path: str
    sha256: str
    size_bytes: int
    model: str
    precision: str
    engine: RuntimeInfo
    int8_mac_share: float | None
