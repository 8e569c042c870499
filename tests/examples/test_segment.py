"""The segmentation example connects an encoder with a decoder that has the inputs of SAM's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.scripts import load_script
from tests.helpers.small_classifiers import hash_content, save_onnx
from tests.helpers.small_encoders import make_encoder_manifest, make_encoder_network
from tinyvit.manifest_parts import OutputSpec
from tinyvit.preprocess import sam_preprocess

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "segment" / "segment.py"
PHOTO = EXAMPLES / "images" / "cat.jpg"

EMBEDDINGS = OutputSpec("image_embeddings", ("batch", 3, 4, 2), "float32", "NCHW", "features", 4)
"""The mean colors of squares of 4 x 4 pixels, of images of 16 x 8 (height x width)."""


def build_color_encoder(path: Path) -> Path:
    """Write an encoder whose embeddings are mean colors, with values from 0 to 1."""
    manifest = make_encoder_manifest((EMBEDDINGS,), 1)
    preprocess = dataclasses.replace(manifest.preprocess, crop="pad")
    manifest = dataclasses.replace(manifest, preprocess=preprocess)
    model = make_encoder_network(manifest)
    content = hash_content(save_onnx(path.with_name("bare.onnx"), model, None))
    manifest = dataclasses.replace(manifest, content_sha256=content)
    return save_onnx(path, make_encoder_network(manifest), manifest)


def build_color_decoder(path: Path) -> Path:
    """Write a decoder for which an object is everything that has the color of the first point.

    It has the inputs and outputs of SAM's export, and expects images without padding.
    """
    onnx = pytest.importorskip("onnx", reason="makes the test files")
    helper, numpy_helper, float32 = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    constants = {
        "stride": np.array(4, np.float32),
        "flat": np.array([2], np.int64),
        "start": np.array([0, 0], np.int64),
        "end": np.array([1, 1], np.int64),
        "axes": np.array([0, 1], np.int64),
        "limit": np.array(0.5, np.float32),
        "leading": np.array([1, 1], np.int64),
        "colors": np.array([1, 3, 1, 1], np.int64),
        "channel": np.array([1], np.int64),
        "flipped": np.array([1, 0], np.int64),
        "score": np.array([[0.9]], np.float32),
    }
    make = helper.make_node
    nodes = [
        # Column and row of the first point, as indices into the embeddings.
        make("Slice", ["point_coords", "start", "end", "axes"], ["first_point"]),
        make("Reshape", ["first_point", "flat"], ["point"]),
        make("Div", ["point", "stride"], ["position"]),
        make("Floor", ["position"], ["floor"]),
        make("Cast", ["floor"], ["column_row"], to=onnx.TensorProto.INT64),
        make("Gather", ["column_row", "flipped"], ["row_column"]),
        make("Transpose", ["image_embeddings"], ["by_position"], perm=[2, 3, 0, 1]),
        make("GatherND", ["by_position", "row_column"], ["color"]),
        make("Reshape", ["color", "colors"], ["point_color"]),
        make("Sub", ["image_embeddings", "point_color"], ["difference"]),
        make("Abs", ["difference"], ["distance"]),
        make("ReduceSum", ["distance", "channel"], ["total"], keepdims=1),
        make("Sub", ["limit", "total"], ["low_res_masks"]),
        make("Cast", ["orig_im_size"], ["size"], to=onnx.TensorProto.INT64),
        make("Concat", ["leading", "size"], ["sizes"], axis=0),
        make(
            "Resize",
            ["low_res_masks", "", "", "sizes"],
            ["masks"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        # The score; the mask inputs are read so that the decoder really has them.
        make("ReduceMax", ["mask_input"], ["mask_maximum"], keepdims=0),
        make("Mul", ["mask_maximum", "has_mask_input"], ["earlier_mask"]),
        make("ReduceMin", ["point_labels"], ["smallest_label"], keepdims=0),
        make("Mul", ["smallest_label", "earlier_mask"], ["nothing"]),
        make("Add", ["score", "nothing"], ["iou_predictions"]),
    ]
    inputs = {
        "image_embeddings": (1, 3, 4, 2),
        "point_coords": (1, "points", 2),
        "point_labels": (1, "points"),
        "mask_input": (1, 1, "mask_height", "mask_width"),
        "has_mask_input": (1,),
        "orig_im_size": (2,),
    }
    outputs = {
        "masks": (1, 1, "height", "width"),
        "iou_predictions": (1, 1),
        "low_res_masks": (1, 1, 4, 2),
    }
    graph = helper.make_graph(
        nodes,
        "decoder",
        *(
            [helper.make_tensor_value_info(name, float32, shape) for name, shape in specs.items()]
            for specs in (inputs, outputs)
        ),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )
    return path


def test_the_object_at_a_point_is_highlighted(tmp_path: Path) -> None:
    encoder = build_color_encoder(tmp_path / "encoder.onnx")
    decoder = build_color_decoder(tmp_path / "decoder.onnx")
    # The upper half is red, the lower half blue.
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[:32, :, 0] = pixels[32:, :, 2] = 200
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    command = [str(SCRIPT), str(encoder), str(decoder), str(tmp_path / "photo.png")]
    output = tmp_path / "segmented.png"
    result = subprocess.run(
        [sys.executable, *command, "--point", "20", "50", "-o", str(output)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"wrote {output}: the object covers 50.0% of the image\n"
    segmented = np.asarray(Image.open(output))
    assert (segmented[:32] == (200, 0, 0)).all()
    # The mean of (0, 0, 200) and (30, 144, 255), rounded down
    assert (segmented[32:] == (15, 72, 227)).all()


def test_a_decoder_of_sam_takes_the_embeddings_of_an_exported_encoder(tmp_path: Path) -> None:
    """The encoder's file and the decoder's are used together as their tools wrote them."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from tests.helpers.mobile_sam import save_mobile_sam
    from tests.helpers.sam_decoder import INPUTS, export_decoder, make_decoder
    from tinyvit.export import ExportConfig, export
    from tinyvit.nn.checkpoints.loading import load_checkpoint
    from tinyvit.outputs import IMAGE_EMBEDDINGS

    size, photo = 64, Image.open(PHOTO).convert("RGB")
    checkpoint_file = save_mobile_sam(tmp_path / "mobile_sam.pt")
    config = ExportConfig(checkpoint=checkpoint_file, img_size=size, output_path=f"{tmp_path}/")
    encoder, decoder = export(config).path, make_decoder(size)
    decoder_file = export_decoder(decoder, tmp_path / "decoder.onnx")
    script, points = load_script(SCRIPT), [(200.0, 150.0), (90.0, 40.0)]
    mask = script.find_object(str(encoder), str(decoder_file), photo, points)
    # The same computation in PyTorch, with the network before it is folded.
    preprocess = sam_preprocess(size)
    inputs = script.make_prompt(points, *photo.size, preprocess)
    checkpoint = load_checkpoint(checkpoint_file, requires_classifier=False).at_size(size)
    pixels = torch.from_numpy(preprocess(photo)[None])
    with torch.inference_mode():
        embeddings = checkpoint.build(IMAGE_EMBEDDINGS).eval()(pixels)
        prompt = [torch.from_numpy(inputs[name]) for name in INPUTS[1:]]
        masks, scores, _ = decoder(embeddings, *prompt)
    expected = masks[0, int(scores.argmax())].numpy()
    assert mask.shape == expected.shape == (photo.height, photo.width)
    assert 0.05 < (expected > 0).mean() < 0.95
    is_certain = np.abs(expected) > 1e-3 * np.abs(expected).max()
    assert ((mask == (expected > 0)) | ~is_certain).all()


def test_prompts_are_in_pixels_of_the_resized_photograph() -> None:
    make_prompt = load_script(SCRIPT).make_prompt
    prompt = make_prompt([(100, 60), (639, 479)], 640, 480, sam_preprocess(1024))
    expected = [[[160, 96], [1022.4, 766.4], [0, 0]]]
    assert np.abs(prompt["point_coords"] - expected).max() < 1e-3
    assert prompt["point_labels"].tolist() == [[1, 1, -1]]
    assert prompt["mask_input"].shape == (1, 1, 256, 256)
    assert prompt["has_mask_input"].tolist() == [0]
    assert prompt["orig_im_size"].tolist() == [480, 640]
    assert {value.dtype for value in prompt.values()} == {np.dtype(np.float32)}
