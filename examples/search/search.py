"""Search a folder of photographs by an example photograph: the most similar ones come first."""

import argparse
import sys
from pathlib import Path

import numpy as np

from tinyvit import Encoder
from tinyvit.cli import run_guarded
from tinyvit.data.listing import list_images
from tinyvit.errors import ImageError
from tinyvit.text.safe_text import print_lines


def embed_folder(encoder: Encoder, folder: Path) -> tuple[list[Path], np.ndarray]:
    """Return the readable images of a folder, and one unit vector for each."""
    results = zip(list_images(folder), encoder.embed_each(list_images(folder), l2_normalize=True))
    found = [(path, row) for path, row in results if not isinstance(row, ImageError)]
    return [path for path, _ in found], np.array([row for _, row in found])


def main() -> int:
    """Print the images of a folder that are most similar to an example, the best first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="file of tinyvit-export --output embedding")
    parser.add_argument("example", help="the photograph to search by")
    parser.add_argument("folder", type=Path, help="folder of photographs, at any depth")
    parser.add_argument("--count", type=int, default=5, help="number of results (default: 5)")
    arguments = parser.parse_args()
    with Encoder(arguments.model) as encoder:
        paths, rows = embed_folder(encoder, arguments.folder)
        similarities = rows @ encoder.embed(arguments.example, l2_normalize=True)
    for index in np.argsort(-similarities)[: arguments.count]:
        print_lines(f"{similarities[index]:.3f}  {paths[index]}")
    return 0


if __name__ == "__main__":
    sys.exit(run_guarded(main))
