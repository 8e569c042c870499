"""Weights and inputs for which ../shared/golden has reference logits (see the README there).

They are computed by a formula, so that no weights have to be stored.
"""

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
    """Compute a state dict by the formula.

    Args:
        shared: The folder ../shared.
        variant: Name of the variant, such as "tiny_vit_5m_224".
        layout: The layout whose key names are used, "timm" or "official" (the paper's).

    Returns:
        Key -> tensor, without the integer buffers that a checkpoint may omit.
    """
    import torch

    formulas = load_formulas(shared)
    shapes = json.loads((shared / "golden" / f"{variant}.{layout}.keys.json").read_text())
    return {
        key: torch.from_numpy(formulas.weights(key, shape))
        for key, shape in shapes.items()
        if not key.endswith(("num_batches_tracked", "attention_bias_idxs"))
    }
