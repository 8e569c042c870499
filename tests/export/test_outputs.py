"""Every target exports embeddings and feature maps, also of images that are not square."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from PIL import Image

from tests.helpers.demo_network import load_demo
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit import Encoder
from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export import ExportConfig, export
from tinyvit.export.cli import main
from tinyvit.export.plan import choose_file_stem
from tinyvit.export.targets import get_target, target_names
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.outputs import make_output_request
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.images.validation_data import read_unlabeled_set
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.verify import verify
from tinyvit.variants import VARIANTS

EMBEDDED: tuple[EmbeddedPreprocessing, ...] = ("host", "full")

HEIGHT, WIDTH = 64, 32


def make_pixels() -> np.ndarray:
    """Return an image of the network's size, uint8 (HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([3 * y, 7 * x, 255 - 2 * y - 3 * x], axis=2).astype(np.uint8)


def compute_in_torch(kind: str) -> list[np.ndarray]:
    """Compute the outputs of the shortened demo for `make_pixels`, before folding."""
    checkpoint = load_demo().at_size((HEIGHT, WIDTH))
    network = checkpoint.build(make_output_request(kind))
    # The mean and std of the demo are ImageNet's.
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = ((make_pixels() / 255 - mean) / std).transpose(2, 0, 1)[None]
    with torch.inference_mode():
        outputs = network(torch.from_numpy(values.astype(np.float32)))
    return [output.numpy()[0] for output in (outputs if kind == "features" else (outputs,))]


def test_an_onnx_file_returns_the_embedding_of_an_image_that_is_not_square(tmp_path: Path) -> None:
    config = ExportConfig(
        model="demo", img_size=(HEIGHT, WIDTH), output="embedding", output_path=f"{tmp_path}/"
    )
    artifact = export(config)
    assert artifact.path == tmp_path / "demo.embedding_64x32.onnx"
    manifest = read_artifact(artifact.path).manifest
    assert manifest is not None
    assert (manifest.img_size, manifest.preprocess.size) == ((64, 32), (64, 32))
    assert manifest.preprocess.resize == (67, 33)  # 64 / 0.95 and 32 / 0.95, rounded down
    assert manifest.input.shape == (1, 3, 64, 32)
    assert [(spec.name, spec.shape, spec.kind) for spec in manifest.outputs] == [
        ("embedding", (1, 320), "embedding")
    ]
    assert manifest.labels == ()
    assert verify(artifact.path).passed
    (expected,) = compute_in_torch("embedding")
    squashed = replace(manifest.preprocess, resize=(64, 32), crop="squash")
    with Encoder(artifact.path, preprocess=squashed) as encoder:
        assert np.abs(encoder.embed(make_pixels()) - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedding", "features"])
@pytest.mark.parametrize("target", target_names())
def test_every_target_returns_what_torch_computes(target: str, kind: str, tmp_path: Path) -> None:
    """The export itself compares the golden vectors; this is another image."""
    suffix = get_target(target).suffix
    has_float32 = "float32" not in get_target(target).unsupported
    config = ExportConfig(
        model="demo",
        targets=(target,),
        img_size=(HEIGHT, WIDTH),
        output=kind,  # type: ignore[arg-type]
        output_path=tmp_path / f"demo{suffix}",
        float16=not has_float32 or target == "tensorrt",
    )
    try:
        artifact = export(config)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    names = ["embedding"] if kind == "embedding" else ["stage0", "stage1", "stage2", "stage3"]
    assert [spec.name for spec in artifact.manifest.outputs] == names
    if get_target(target).parity_method == "graph":
        return  # Its engine does not run here.
    squashed = replace(artifact.manifest.preprocess, resize=(64, 32), crop="squash")
    engine = get_target(target).reference_engine
    with Encoder(artifact.path, engine, preprocess=squashed) as encoder:
        if kind == "embedding":
            outputs = [encoder.embed(make_pixels())]
        else:
            outputs = list(encoder.features(make_pixels()).values())
    for output, expected in zip(outputs, compute_in_torch(kind)):
        assert output.shape == expected.shape
        tolerance = 1e-3 if has_float32 else 1e-2
        assert np.abs(output - expected).max() < tolerance * max(1, np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_a_file_that_resizes_covers_an_input_that_is_not_square(
    target: str, tmp_path: Path
) -> None:
    """The resize in the file computes the pixels of `Preprocess`, for wide and for tall images."""
    config = ExportConfig(model="demo", targets=(target,), img_size=(65, 33), output="embedding")
    suffix = get_target(target).suffix
    files = {
        stage: export(
            replace(config, preprocess=stage, output_path=tmp_path / f"{stage}{suffix}")
        ).path
        for stage in EMBEDDED
    }
    with Encoder(files["host"]) as host, Encoder(files["full"]) as full:
        for height, width in ((90, 120), (120, 33), (37, 1000), (2000, 100), (65, 33)):
            image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
            difference = np.abs(host.embed(image) - full.embed(image)).max()
            assert difference < 0.02 * np.abs(host.embed(image)).max()


@pytest.mark.slow
def test_int8_embeddings_are_compared_by_cosine(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(70):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 7, 3), np.uint8)
        Image.fromarray(pixels).resize((80, 100), Image.Resampling.BICUBIC).save(
            folder / f"{i}.png"
        )
    quantization = QuantizationConfig(calib_data=folder, calib_count=32)
    config = ExportConfig(
        model="demo",
        img_size=(HEIGHT, WIDTH),
        output="embedding",
        output_path=tmp_path / "demo.int8.onnx",
        quantization=quantization,
    )
    record = export(config).manifest.quantization
    assert record is not None
    assert record.cosine is not None
    assert record.cosine >= 0.99
    assert record.neighbor_agreement is not None
    # The images are much alike; 76% were measured, and chance is 3%.
    assert record.neighbor_agreement >= 60
    assert (record.agreement, record.top1, record.forced) == (None, None, False)
    impossible = replace(quantization, budget=AccuracyBudget(min_cosine=1.0))
    with pytest.raises(RequestError, match=r"int8 misses its accuracy budget: .*cosine similar"):
        export(replace(config, quantization=impossible, overwrite=True))


def test_a_checkpoint_without_a_classifier_is_exported_as_an_embedding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "headless.pth"
    torch.save(TinyViT(VARIANTS["tiny_vit_5m_224"], 0, 64).state_dict(), path)
    progress = RecordedProgress()
    artifact = export(ExportConfig(checkpoint=path, output_path=tmp_path / "a.onnx"), progress)
    assert artifact.manifest.output_kind == "embedding"
    assert "headless has no classifier (num_classes=0), so its embedding is exported" in (
        progress.messages
    )
    command = ["--checkpoint", str(path), "--output", "logits", "-o", str(tmp_path / "b.onnx")]
    assert main(command) == 1
    assert "give --output embedding or --output features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "out/"], "the path of the file is given with -o"),
        (["--stages", "1"], "add --output features"),
        (["--output", "embedding", "--labels", "x.txt"], "--output embedding has none"),
        (["--output", "embedding", "--int8", "--min-agreement", "90"], "give --min-cosine"),
        (["--int8", "--min-cosine", "2"], "--min-cosine 2.0 is outside the allowed range"),
        (["--output", "logits", "--int8", "--min-cosine", "0.9"], "give --min-agreement"),
        (["--img-size", "64x32", "--windows", "scaled"], "use --windows checkpoint"),
        (["--img-size", "31"], "use a height and a width from 32 to 1024"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "demo", *options, "-o", str(tmp_path / "a.onnx")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "stem"),
    [
        ({"output": "features"}, "demo.features"),
        ({"output": "features", "stages": (3, 1)}, "demo.stages13"),
        ({"output": "embedding", "img_size": (64, 32)}, "demo.embedding_64x32"),
        ({"output": "logits", "img_size": 224}, "demo"),
        ({"output": "embedding", "float16": True}, "demo.embedding.float16"),
    ],
)
def test_files_are_named_after_their_output(changes: dict[str, Any], stem: str) -> None:
    assert choose_file_stem(ExportConfig(model="demo", **changes)) == stem


def test_unlabeled_images_are_those_of_a_folder_or_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("b.png", "more/a.png"):
        Image.new("RGB", (40, 40), (1, 2, 3)).save(tmp_path / name)
    preprocess = load_released("demo").preprocess
    images = read_unlabeled_set(tmp_path, preprocess)
    assert [file.name for file in images.images.files] == ["b.png", "a.png"]
    assert images.describe() == "2 images"
    listed = tmp_path / "list.txt"
    listed.write_text("more/a.png\tcats\n")
    assert read_unlabeled_set(listed, preprocess).images.files == (tmp_path / "more" / "a.png",)
    listed.write_text("\n")
    with pytest.raises(RequestError, match="is empty"):
        read_unlabeled_set(listed, preprocess)


def test_the_summary_and_the_record_describe_the_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--model", "demo", "--img-size", "64x32", "--output", "features", "--stages", "2"]
    assert main([*command, "-o", str(tmp_path / "a.onnx"), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert record["outputs"] == [
        {
            "name": "stage2",
            "shape": [1, 160, 4, 2],
            "dtype": "float32",
            "layout": "NCHW",
            "kind": "features",
            "stride": 16,
        }
    ]
    assert (record["img_size"], record["classes"]) == ([64, 32], 0)
