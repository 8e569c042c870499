"""Cut an object out of a photograph: MobileSAM's encoder (int8) and a decoder of SAM (float32)."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tinyvit import Encoder
from tinyvit.preprocess import Preprocess
from tinyvit.text.safe_text import print_lines

FOREGROUND, PADDING = 1, -1
"""Labels of points in SAM: a point of the object; and a point that the decoder ignores, which its
export expects if no box is given."""

HIGHLIGHT = np.array([30, 144, 255])
"""Color of the object in the written image."""


def make_prompt(
    points: list[tuple[float, float]], width: int, height: int, preprocess: Preprocess
) -> dict[str, npt.NDArray[np.float32]]:
    """Make the inputs of a decoder that describe what to segment.

    Args:
        points: Points of the object, as column and row in pixels of the photograph.
        width: Width of the photograph in pixels.
        height: Height of the photograph in pixels.
        preprocess: The preprocessing of the encoder, which states how large the photograph becomes.

    Returns:
        Name of each input -> values. Coordinates are those of the resized photograph.
    """
    resized_width, resized_height = preprocess.resized_size(width, height)
    scale = np.array([resized_width / width, resized_height / height])
    rows, columns = preprocess.height // 16, preprocess.width // 16
    return {
        "point_coords": np.array([[*(np.array(points) * scale), [0, 0]]], np.float32),
        "point_labels": np.array([[*[FOREGROUND] * len(points), PADDING]], np.float32),
        # No mask of an earlier run is given.
        "mask_input": np.zeros((1, 1, 4 * rows, 4 * columns), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array([height, width], np.float32),
    }


def find_object(
    encoder_path: str, decoder_path: str, image: Image.Image, points: list[tuple[float, float]]
) -> npt.NDArray[Any]:
    """Return which pixels belong to the object at some points, bool (height, width)."""
    import onnxruntime  # after tinyvit, which turns off its telemetry

    with Encoder(encoder_path) as encoder:
        features = encoder.features(image)
        inputs = make_prompt(points, image.width, image.height, encoder.preprocess)
    inputs["image_embeddings"] = features["image_embeddings"][None]
    decoder = onnxruntime.InferenceSession(decoder_path, providers=["CPUExecutionProvider"])
    masks, scores = decoder.run(["masks", "iou_predictions"], inputs)
    # A decoder can return several masks for an ambiguous prompt, with an estimate of their quality.
    return np.asarray(masks[0, int(scores[0].argmax())] > 0)


def main() -> None:
    """Write a photograph in which the object at the given points is highlighted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoder", help="file of tinyvit-export --checkpoint mobile_sam.pt")
    parser.add_argument("decoder", help="ONNX file of a decoder of SAM")
    parser.add_argument("image", help="the photograph")
    parser.add_argument(
        "--point",
        nargs=2,
        type=float,
        action="append",
        required=True,
        metavar=("X", "Y"),
        help="a point of the object in pixels, from the left and from the top; repeat for several",
    )
    parser.add_argument("-o", "--output", default="segmented.png", help="the image to write")
    arguments = parser.parse_args()
    image = ImageOps.exif_transpose(Image.open(arguments.image)).convert("RGB")
    points = [(x, y) for x, y in arguments.point]
    mask = find_object(arguments.encoder, arguments.decoder, image, points)
    pixels = np.asarray(image).copy()
    pixels[mask] = (pixels[mask] + HIGHLIGHT) // 2
    Image.fromarray(pixels).save(arguments.output)
    print_lines(f"wrote {arguments.output}: the object covers {mask.mean():.1%} of the image")


if __name__ == "__main__":
    main()
