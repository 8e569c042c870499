"""A checkpoint in 16 bits, half the size: how the demo is packaged, and good enough to hand on.

python package.py OUT/at224/best.safetensors demo.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

from tinyvit.distill.training.student import save_checkpoint
from tinyvit.labels import numbered_labels
from tinyvit.nn.checkpoint import load_checkpoint


def main(source: str, output: str) -> None:
    """Weights and statistics become float16; counters stay integers."""
    checkpoint = load_checkpoint(Path(source))
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint.state_dict.items()
    }
    labels = checkpoint.labels or numbered_labels(checkpoint.num_classes)
    save_checkpoint(Path(output), state, labels, checkpoint.preprocess, checkpoint.license)


if __name__ == "__main__":
    main(*sys.argv[1:])
