"""Store a checkpoint in float16, which halves its size, as was done for the packaged demo model.

    python package.py OUT/at224/best.safetensors demo.safetensors

OUT is the output folder of train_demo.sh.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.distill.training.student import save_checkpoint
from tinyvit.labels import numbered_labels
from tinyvit.nn.checkpoint import load_checkpoint


def convert_to_float16(source: Path, output: Path) -> None:
    """Write a checkpoint whose weights and BatchNorm statistics are float16.

    Integers, such as BatchNorm's counters, stay as they are.

    Args:
        source: The checkpoint to read.
        output: The .safetensors file to write or replace.
    """
    checkpoint = load_checkpoint(source)
    state_dict = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.state_dict.items()
    }
    labels = checkpoint.labels or numbered_labels(checkpoint.num_classes)
    save_checkpoint(output, state_dict, labels, checkpoint.preprocess, checkpoint.license)


def main() -> None:
    """Run the command with the arguments of the process."""
    parser = argparse.ArgumentParser(description="Store a checkpoint in float16.")
    parser.add_argument("source", type=Path, help="Checkpoint to read.")
    parser.add_argument("output", type=Path, help=".safetensors file to write.")
    arguments = parser.parse_args()
    convert_to_float16(arguments.source, arguments.output)


if __name__ == "__main__":
    main()
