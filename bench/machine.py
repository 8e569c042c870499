"""What machine a figure was measured on."""

from __future__ import annotations

import os

from tinyvit.runtimes import cpu


def cpu_facts() -> str:
    """Model, features and cores of this processor, in one line, as far as the system tells."""
    return f"{cpu.describe(cpu.cpuinfo())}, {os.cpu_count()} cores"
