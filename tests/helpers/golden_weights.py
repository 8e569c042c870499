"""Weights and inputs behind the golden logits in ../shared/golden, which has a README."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.helpers.scripts import load_script


def load_formulas(shared: Path) -> ModuleType:
    """Import the module with the formulas `image(size, count)` and `weights(key, shape)`."""
    return load_script(shared / "golden" / "fill.py")


def make_golden_state(shared: Path, variant: str, layout: str) -> dict[str, Any]:
    """Generate the state dict of a variant, with the key names of a layout, by the formula."""
    import torch

    formulas = load_formulas(shared)
    shapes = json.loads((shared / "golden" / f"{variant}.{layout}.keys.json").read_text())
    return {
        key: torch.from_numpy(formulas.weights(key, shape))
        for key, shape in shapes.items()
        if not key.endswith(("num_batches_tracked", "attention_bias_idxs"))
    }
