"""Reads the CPU's name and features, and checks that the CPU computes an int8 artifact correctly.

Name and features are read from /proc/cpuinfo, which only Linux has. On other systems, the features
are unknown.
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
"""Flags in /proc/cpuinfo for VNNI, x86's instructions for sums of int8 products.

With either flag, the sums are exact. Without VNNI, kernels for x86 add pairs of products in 16
bits, and a sum of two products that exceeds 16 bits is clipped: it saturates.
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
"""Maps a flag in /proc/cpuinfo to the feature's usual name, for features that affect latency."""


def read_cpuinfo() -> dict[str, str] | None:
    """Read the entry of the first processor in /proc/cpuinfo.

    Returns:
        Key -> value of each line "key : value"; None if the system has no such file, or if the file
        describes a processor of another architecture.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return parse_cpuinfo(text, platform.machine())


def parse_cpuinfo(text: str, machine: str) -> dict[str, str] | None:
    """Parse the entry of the first processor in the text of a /proc/cpuinfo.

    Under an emulator, the file may describe the host's processor. The line "flags" shows this: only
    x86 processors have it; Arm processors have "Features" instead.

    Args:
        text: Content of the file.
        machine: Architecture, as `platform.machine()` returns it.

    Returns:
        Key -> value of each line "key : value"; None if the text describes a processor of another
        architecture.
    """
    lines = [line.partition(":") for line in text.splitlines()]
    # Reversed, so that the first processor's values overwrite those of the others.
    cpuinfo = {key.strip(): value.strip() for key, colon, value in reversed(lines) if colon}
    describes_x86 = "flags" in cpuinfo
    return cpuinfo if describes_x86 == _is_x86(machine) else None


def read_flags() -> frozenset[str] | None:
    """Return the first processor's flags, such as "avx2"; None if `read_cpuinfo` returns None."""
    cpuinfo = read_cpuinfo()
    return None if cpuinfo is None else _parse_flags(cpuinfo)


def describe(cpuinfo: dict[str, str] | None) -> str:
    """Describe a processor in one line.

    Args:
        cpuinfo: Result of `read_cpuinfo`.

    Returns:
        Name and features, such as "Intel(R) Xeon(R) (AVX-512 VNNI, AVX2)".
    """
    name, features = read_name(cpuinfo), ", ".join(list_features(cpuinfo))
    return f"{name} ({features})" if features else name


def read_name(cpuinfo: dict[str, str] | None) -> str:
    """Read the name of a processor.

    Args:
        cpuinfo: Result of `read_cpuinfo`.

    Returns:
        The name; for Arm processors without a name, their implementer and part number; "unknown
        processor" if the system reports none of these.
    """
    cpuinfo = cpuinfo or {}
    # On a Raspberry Pi, "Model" is the name of the board, and "model name" may be missing.
    model = cpuinfo.get("model name") or cpuinfo.get("Model")
    if not model and "CPU part" in cpuinfo:
        implementer = cpuinfo.get("CPU implementer", "unknown")
        model = f"Arm processor, implementer {implementer}, part {cpuinfo['CPU part']}"
    return model or platform.processor() or "unknown processor"


def list_features(cpuinfo: dict[str, str] | None) -> tuple[str, ...]:
    """List which of `FEATURES` a processor has.

    Args:
        cpuinfo: Result of `read_cpuinfo`.

    Returns:
        Usual names of the features, in the order of `FEATURES`.
    """
    processor_flags = _parse_flags(cpuinfo or {})
    return tuple(name for flag, name in FEATURES.items() if flag in processor_flags)


def check_int8_support(
    manifest: Manifest, machine: str, processor_flags: frozenset[str] | None
) -> None:
    """Check that a processor computes the sums in an int8 artifact exactly.

    In an artifact that was exported with --cpu vnni, sums saturate on x86 processors without VNNI.
    On all other processors they are exact.

    Args:
        manifest: Manifest of the artifact.
        machine: Architecture, as `platform.machine()` returns it.
        processor_flags: Result of `read_flags`. On x86, None causes a UserWarning.

    Raises:
        ArtifactError: If the sums would saturate.
    """
    quantization = manifest.quantization
    needs_vnni = quantization is not None and quantization.required_cpu_feature != "any"
    if not needs_vnni or not _is_x86(machine):
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


def check_this_processor_for_int8(manifest: Manifest | None) -> None:
    """Check that this processor computes the sums in an int8 artifact exactly.

    Args:
        manifest: Manifest of the artifact; None for a file without one, which is not checked.

    Raises:
        ArtifactError: If the sums would saturate.
    """
    if manifest is not None:
        check_int8_support(manifest, platform.machine(), read_flags())


def _is_x86(machine: str) -> bool:
    return machine.lower() in X86


def _parse_flags(cpuinfo: dict[str, str]) -> frozenset[str]:
    """Return the flags, which have the key "flags" for x86 and the key "Features" for Arm."""
    return frozenset(cpuinfo.get("flags", cpuinfo.get("Features", "")).split())
