"""What machine a figure was measured on."""

from __future__ import annotations

import os

from tinyvit.runtimes.cpu import cpuinfo
from tinyvit.runtimes.cpu import flags as cpu_flags

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
    facts, flags = cpuinfo(), cpu_flags()
    if facts is None or flags is None:
        return f"unknown processor, {os.cpu_count()} cores"
    found = ", ".join(name for flag, name in _FEATURES.items() if flag in flags)
    return f"{facts.get('model name', 'unknown processor')} ({found}), {os.cpu_count()} cores"
