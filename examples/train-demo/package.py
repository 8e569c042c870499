"""Make the packaged demo model: keep some classes of a checkpoint, and store it in float16.

    python package.py OUT/at224/best.safetensors demo.safetensors --classes DATA/val

OUT is the output folder of train_demo.sh, and DATA its folder of images. The trained checkpoint has
the teacher's 1000 classes. The demo keeps those with a folder in DATA/val. Numbers in float16 halve
the size of the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.training.network.student import save_checkpoint
from tinyvit.labels import numbered_labels
from tinyvit.nn.checkpoints.loading import load_checkpoint


def package_checkpoint(source: Path, output: Path, class_folders: Path | None) -> None:
    """Write a checkpoint with float16 weights and BatchNorm statistics.

    Integers, such as BatchNorm's counters, stay as they are.

    Args:
        source: The checkpoint to read.
        output: The .safetensors file to write or replace.
        class_folders: Folder with one subfolder of images for each class to keep. The order of the
            classes stays that of the checkpoint. None keeps all classes.

    Raises:
        RequestError: A subfolder is no class of the checkpoint.
    """
    checkpoint = load_checkpoint(source)
    labels = checkpoint.labels or numbered_labels(checkpoint.num_classes)
    kept_outputs = list(range(len(labels)))
    if class_folders is not None:
        images = read_image_folder(class_folders)
        kept_outputs = sorted(set(images.find_class_indices(labels).tolist()))
    state_dict = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.state_dict.items()
    }
    save_checkpoint(
        output,
        state_dict,
        [labels[row] for row in kept_outputs],
        checkpoint.preprocess,
        checkpoint.license,
        kept_outputs,
    )


def main() -> None:
    """Run the command with the arguments of the process."""
    parser = argparse.ArgumentParser(description="Make the packaged demo model from a checkpoint.")
    parser.add_argument("source", type=Path, help="Checkpoint to read.")
    parser.add_argument("output", type=Path, help=".safetensors file to write.")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="DIR",
        help="Keep the classes that have a folder in DIR (default: all).",
    )
    arguments = parser.parse_args()
    package_checkpoint(arguments.source, arguments.output, arguments.classes)


if __name__ == "__main__":
    main()
