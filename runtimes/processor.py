"""Facts about the CPU of this machine, and whether it computes an int8 artifact correctly.

Linux lists them in /proc/cpuinfo; other systems report none of them.
"""

from __future__ import annotations

import platform
import warnings
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.manifest import Manifest

X86 = ("x86_64", "amd64", "i386", "i686")
"""Values of `platform.machine()` on x86, in lower case."""

VNNI = ("avx512_vnni", "avx_vnni")
"""Flags of /proc/cpuinfo, either of which makes int8 products exact.

Without them, x86 kernels add two products in 16 bits, which saturates.
"""

FEATURES = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "bf16",
    "amx_int8": "AMX",
    "avx2": "AVX2",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
"""Flags of /proc/cpuinfo that decide how fast a network runs, with their usual names."""


def cpuinfo() -> dict[str, str] | None:
    """Read what /proc/cpuinfo states about the first processor.

    Returns:
        The lines as a dictionary; None if the system has no such file, or if the file describes
        a processor of another architecture.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return first_processor(text, platform.machine())


def first_processor(text: str, machine: str) -> dict[str, str] | None:
    """Parse the entry of the first processor in the text of a /proc/cpuinfo.

    An emulator may show its host's file. It is recognized by the line "flags", which only x86 has;
    Arm has "Features" instead.

    Args:
        text: Content of the file.
        machine: Architecture, as `platform.machine()` returns it.

    Returns:
        The lines as a dictionary; None if they describe a processor of another architecture.
    """
    lines = [line.partition(":") for line in text.splitlines()]
    # Later processors come first here, so that the first one's values remain.
    facts = {key.strip(): value.strip() for key, colon, value in reversed(lines) if colon}
    return facts if ("flags" in facts) == (machine.lower() in X86) else None


def flags() -> frozenset[str] | None:
    """Return the first processor's flags; None if the system does not report them."""
    facts = cpuinfo()
    return None if facts is None else _parse_flags(facts)


def describe(facts: dict[str, str] | None) -> str:
    """Describe a processor in one line.

    Args:
        facts: Result of `cpuinfo`.

    Returns:
        Name and features, such as "Intel(R) Xeon(R) (AVX-512 VNNI, AVX2)".
    """
    known_features = ", ".join(features(facts))
    return f"{name(facts)} ({known_features})" if known_features else name(facts)


def name(facts: dict[str, str] | None) -> str:
    """Return a processor's name.

    Args:
        facts: Result of `cpuinfo`.

    Returns:
        The name; implementer and part number for Arm processors without one; "unknown processor"
        if the system reports neither.
    """
    facts = facts or {}
    # "Model" names the board of a Raspberry Pi.
    model = facts.get("model name") or facts.get("Model")
    if not model and "CPU part" in facts:
        implementer = facts.get("CPU implementer", "unknown")
        model = f"Arm processor, implementer {implementer}, part {facts['CPU part']}"
    return model or platform.processor() or "unknown processor"


def features(facts: dict[str, str] | None) -> tuple[str, ...]:
    """Return the usual names of those `FEATURES` that a processor has.

    Args:
        facts: Result of `cpuinfo`.

    Returns:
        Names in the order of `FEATURES`.
    """
    processor_flags = _parse_flags(facts or {})
    return tuple(label for flag, label in FEATURES.items() if flag in processor_flags)


def check_int8_support(
    manifest: Manifest, machine: str, processor_flags: frozenset[str] | None
) -> None:
    """Check that a processor computes an int8 artifact's sums exactly.

    The sums of an artifact that was exported with --cpu vnni saturate on x86 processors without
    VNNI. Processors of other architectures add exactly.

    Args:
        manifest: Manifest of the artifact.
        machine: Architecture, as `platform.machine()` returns it.
        processor_flags: Result of `flags`. If it is None on x86, a UserWarning is issued.

    Raises:
        ArtifactError: If the sums would saturate.
    """
    quantization = manifest.quantization
    if (
        quantization is None
        or quantization.required_cpu_feature == "any"
        or machine.lower() not in X86
    ):
        return
    if processor_flags is None:
        warnings.warn(
            "the file needs a processor with VNNI, and this system does not report whether it has"
            " VNNI: if you are not sure, export the file again without --cpu vnni",
            stacklevel=3,
        )
    elif not processor_flags.intersection(VNNI):
        raise ArtifactError(
            "the file was exported with --cpu vnni, and this processor has no VNNI: its int8 sums"
            " would be wrong",
            "export it again without --cpu vnni",
        )


def check_manifest(manifest: Manifest | None) -> None:
    """Run `check_int8_support` for this machine; a file without a manifest passes."""
    if manifest is not None:
        check_int8_support(manifest, platform.machine(), flags())


def _parse_flags(facts: dict[str, str]) -> frozenset[str]:
    return frozenset(facts.get("flags", facts.get("Features", "")).split())
