"""What machine a figure was measured on."""

from __future__ import annotations

import os
from pathlib import Path

_FEATURES = {
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "bf16",
    "amx_int8": "AMX",
    "avx2": "AVX2",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
"""Flags of /proc/cpuinfo that decide how fast a network runs, and what people call them."""


def cpu_facts() -> str:
    """Model, features and cores of this processor, in one line; "unknown processor" where /proc/cpuinfo is absent."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return f"unknown processor, {os.cpu_count()} cores"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = facts.get("flags", facts.get("Features", "")).split()
    found = ", ".join(name for flag, name in _FEATURES.items() if flag in flags)
    return f"{facts.get('model name', 'unknown processor')} ({found}), {os.cpu_count()} cores"
