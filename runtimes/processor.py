"""What this processor can do, as far as the system tells, and whether a file may be trusted on it."""

from __future__ import annotations

import platform
import warnings
from pathlib import Path

from tinyvit.errors import ArtifactError
from tinyvit.manifest import Manifest

X86 = ("x86_64", "amd64", "i386", "i686")
VNNI = ("avx512_vnni", "avx_vnni")
"""Flags of /proc/cpuinfo: either makes 8-bit products exact. Without, x86 kernels add two of them in 16 bits, and saturate."""


FEATURES = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "bf16",
    "amx_int8": "AMX",
    "avx2": "AVX2",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
"""Flags of /proc/cpuinfo that decide how fast a network runs, and what people call them."""


def cpuinfo() -> dict[str, str] | None:
    """What /proc/cpuinfo says of the first processor; None on systems that have none, or that show another one's."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return first_processor(text, platform.machine())


def first_processor(text: str, machine: str) -> dict[str, str] | None:
    """The lines of a /proc/cpuinfo; None where they are another architecture's, as an emulator may show its host's.

    Only x86 has a line "flags" (Arm's is "Features").
    """
    lines = [line.partition(":") for line in text.splitlines()]
    facts = {key.strip(): value.strip() for key, colon, value in reversed(lines) if colon}
    return facts if ("flags" in facts) == (machine.lower() in X86) else None


def flags() -> frozenset[str] | None:
    """The first processor's flags, or None where the system does not tell them."""
    facts = cpuinfo()
    return None if facts is None else _flags(facts)


def describe(facts: dict[str, str] | None) -> str:
    """Name and features of a processor in one line, from what `cpuinfo` says; "unknown processor" where nothing tells."""
    able = ", ".join(features(facts))
    return f"{name(facts)} ({able})" if able else name(facts)


def name(facts: dict[str, str] | None) -> str:
    """Of a processor, "unknown processor" where nothing tells."""
    facts = facts or {}
    told = facts.get("model name") or facts.get("Model")  # the latter is a Raspberry Pi's board
    if not told and "CPU part" in facts:  # most Arm systems have numbers only
        told = f"Arm processor, implementer {facts.get('CPU implementer', 'unknown')}, part {facts['CPU part']}"
    return told or platform.processor() or "unknown processor"


def features(facts: dict[str, str] | None) -> tuple[str, ...]:
    """Those of FEATURES that a processor has, as people call them."""
    known = _flags(facts or {})
    return tuple(called for flag, called in FEATURES.items() if flag in known)


def _flags(facts: dict[str, str]) -> frozenset[str]:
    return frozenset(facts.get("flags", facts.get("Features", "")).split())


def refuse_where_wrong(manifest: Manifest, machine: str, known: frozenset[str] | None) -> None:
    """Raise ArtifactError for a file whose int8 sums saturate here: made with --cpu vnni, on an x86 processor without it.

    Other architectures add exactly. Where an x86 system does not tell its flags (known is None), warn.
    """
    quantization = manifest.quantization
    if quantization is None or quantization.cpu == "any" or machine.lower() not in X86:
        return
    if known is None:
        warnings.warn(
            "the file needs a processor with VNNI, and this system does not tell: export it again without --cpu vnni if unsure",
            stacklevel=3,
        )
    elif not known.intersection(VNNI):
        raise ArtifactError(
            "the file was made with --cpu vnni, and this processor has no VNNI: its int8 sums would be wrong",
            "export it again without --cpu vnni",
        )


def check(manifest: Manifest | None) -> None:
    """`refuse_where_wrong`, on this machine."""
    if manifest is not None:
        refuse_where_wrong(manifest, platform.machine(), flags())
