"""ONNX and OpenVINO artifacts have the right content, and an export leaves no other files."""

from __future__ import annotations

import copy
import os
import re
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.install_commands import install_command

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from tests.helpers.demo_network import ATTENTION_BLOCKS  # noqa: E402 (after importorskip)
from tests.helpers.exports import reuse_network, shorten_timing  # noqa: E402
from tests.helpers.golden_weights import load_formulas, make_golden_state  # noqa: E402
from tinyvit import Classifier  # noqa: E402
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError  # noqa: E402
from tinyvit.export import ExportConfig, ExportedArtifact, export, export_all  # noqa: E402
from tinyvit.export.targets import LoweredModel  # noqa: E402
from tinyvit.export.targets.onnx.target import OnnxTarget  # noqa: E402
from tinyvit.nn.checkpoints import hub  # noqa: E402
from tinyvit.runtimes.artifact import read_artifact, read_manifest  # noqa: E402
from tinyvit.runtimes.engines.openvino import shared_core  # noqa: E402
from tinyvit.runtimes.registry import open_runtime  # noqa: E402
from tinyvit.runtimes.verify import verify  # noqa: E402
from tinyvit.variants import VARIANTS  # noqa: E402

TARGETS = ("onnx", "openvino")


@pytest.fixture(autouse=True)
def _short_timing():
    with shorten_timing():
        yield


def golden_cases() -> list[Any]:
    """Every variant in both layouts; all but the smallest in timm's layout take long."""
    return [
        pytest.param(
            variant,
            layout,
            marks=() if (variant, layout) == ("tiny_vit_5m_224", "timm") else pytest.mark.slow,
        )
        for variant in VARIANTS
        for layout in ("timm", "official")
    ]


@pytest.mark.parametrize(("variant", "layout"), golden_cases())
def test_exported_logits_are_those_of_the_public_implementations(variant, layout, shared, tmp_path):
    torch.save({"model": make_golden_state(shared, variant, layout)}, tmp_path / "weights.pth")
    report = export_all(
        ExportConfig(
            checkpoint=tmp_path / "weights.pth", targets=TARGETS, output_path=tmp_path / "out"
        )
    )
    expected = np.load(shared / "golden" / f"{variant}.{layout}.npz")["logits"]
    images = load_formulas(shared).image(VARIANTS[variant].img_size, len(expected))
    onnx, openvino = report.artifacts
    assert (onnx.manifest.target, openvino.manifest.target) == TARGETS
    assert report.failures == ()
    for path, engine in (
        (onnx.path, "onnxruntime"),
        (onnx.path, "openvino"),
        (openvino.path, "openvino"),
    ):
        with open_runtime(path, engine) as runtime:
            logits = np.concatenate([runtime.run(image[None]) for image in images])
        assert np.abs(logits - expected).max() < 1e-3


@pytest.mark.parametrize("target", TARGETS)
def test_manifest_describes_the_file(demo, target):
    manifest = read_manifest(demo[target])
    checkpoint = hub.load_released("demo")
    assert (manifest.model, manifest.variant, manifest.target) == (
        "demo",
        "tiny_vit_5m_224",
        target,
    )
    assert (manifest.precision, manifest.embedded_preprocessing) == ("float32", "host")
    assert (manifest.labels, manifest.preprocess) == (checkpoint.labels, checkpoint.preprocess)
    assert manifest.license == "MIT"
    assert manifest.source.sha256 == checkpoint.sha256
    assert manifest.input.shape == (1, 3, 224, 224)
    assert manifest.parity.max_abs_diff < 1e-4
    assert {"tinyvit-edge", "torch", "onnx"} <= manifest.tools.keys()


@pytest.mark.parametrize(
    ("target", "engine"), [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")]
)
def test_artifacts_verify_in_every_engine(demo, target, engine):
    verification = verify(demo[target], engine)
    assert verification.passed
    assert verification.content_unchanged
    assert verification.max_abs_diff < 1e-4


def test_verify_fails_with_one_weight_changed(demo, tmp_path):
    import onnx

    model = onnx.load(demo["onnx"])
    weight = next(
        tensor
        for tensor in model.graph.initializer
        if tensor.name == "stages.2.blocks.1.mlp.fc1.weight"
    )
    values = onnx.numpy_helper.to_array(weight).copy()
    values[7, 11] += 30.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "changed.onnx")
    verification = verify(tmp_path / "changed.onnx")
    assert not verification.passed
    assert not verification.content_unchanged
    assert verification.max_abs_diff > verification.tolerance


def test_onnx_file_has_pinned_versions_and_no_path_of_this_machine(demo):
    import onnx

    model = onnx.load(demo["onnx"])
    onnx.checker.check_model(model, full_check=True)
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    assert (model.ir_version, opsets) == (9, [("", 20)])
    assert model.functions == []
    data = demo["onnx"].read_bytes()
    assert os.getcwd().encode() not in data
    assert sys.prefix.encode() not in data
    assert len(data) < 22e6


def test_attention_biases_are_compact_in_the_onnx_file(demo, tmp_path):
    import onnx
    import onnxruntime

    model = onnx.load(demo["onnx"])
    assert sum(node.op_type == "Gather" for node in model.graph.node) == ATTENTION_BLOCKS
    indices = [tensor for tensor in model.graph.initializer if tensor.name.startswith("bias_index")]
    assert [(list(tensor.dims), tensor.data_type) for tensor in indices] == [
        ([7**4], onnx.TensorProto.INT32),
        ([14**4], onnx.TensorProto.INT32),
    ]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(demo["onnx"], options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx")
    assert not any("Gather" in node.op_type for node in loaded.graph.node)


@pytest.mark.parametrize("target", TARGETS)
def test_openvino_expands_attention_biases_when_it_loads_a_file(demo, target):
    compiled = shared_core().compile_model(str(demo[target]), "CPU")
    layer_types = [
        operation.get_rt_info()["layerType"].astype(str)
        for operation in compiled.get_runtime_model().get_ops()
    ]
    assert "FullyConnected" in layer_types
    assert not any("Gather" in layer_type for layer_type in layer_types)
    assert demo["openvino"].with_suffix(".bin").stat().st_size < 22e6


def test_graph_has_few_copies_and_no_control_flow(demo):
    import onnx

    model = onnx.load(demo["onnx"])
    assert {node.op_type for node in model.graph.node} == {
        "Conv",
        "Gelu",
        "Gemm",
        "LayerNormalization",
        "Softmax",
        "MatMul",
        "Add",
        "ReduceMean",
        "Reshape",
        "Transpose",
        "Gather",
    }
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    assert max(len(value.type.tensor_type.shape.dim) for value in inferred.graph.value_info) <= 5


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes(demo, tmp_path):
    report = export_all(ExportConfig(model="demo", targets=TARGETS, output_path=tmp_path))
    for artifact in report.artifacts:
        assert [file.read_bytes() for file in artifact.files] == [
            (demo["onnx"].parent / file.name).read_bytes() for file in artifact.files
        ]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 3], ids=["dynamic", "fixed"])
def test_open_and_fixed_batches_give_the_same_logits(demo, images, batch, tmp_path):
    config = ExportConfig(model="demo", targets=TARGETS, output_path=tmp_path, batch=batch)
    photographs = [images / "cat.jpg", images / "coffee.jpg"] * 2
    expected = Classifier(demo["onnx"]).logits(photographs)
    for artifact in export_all(config).artifacts:
        with Classifier(artifact.path) as classifier:
            assert np.abs(classifier.logits(photographs) - expected).max() < 1e-4
        assert verify(artifact.path).passed
        assert artifact.manifest.input.shape[0] == ("batch" if batch is None else batch)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("embedded_preprocessing", "tolerance"), [("normalize", 1e-4), ("full", 0.05)]
)
def test_preprocessing_in_the_file_gives_nearly_the_same_logits(
    demo, images, preprocessing_artifacts, embedded_preprocessing, tolerance, target
):
    artifact = preprocessing_artifacts[embedded_preprocessing][target]
    expected = Classifier(demo["onnx"]).logits(images)
    with Classifier(artifact.path) as classifier:
        assert np.abs(classifier.logits(images) - expected).max() < tolerance
    assert verify(artifact.path).passed


def test_onnx_file_that_resizes_is_refused_by_openvino(preprocessing_artifacts):
    with pytest.raises(RequestError, match="--target openvino --preprocess full"):
        Classifier(preprocessing_artifacts["full"]["onnx"].path, engine_name="openvino")


@pytest.mark.slow
@pytest.mark.parametrize("embedded_preprocessing", ["normalize", "full"])
def test_preprocessing_in_the_file_keeps_the_class_of_every_photograph(
    demo, shared, preprocessing_artifacts, embedded_preprocessing
):
    folder = shared / "data" / "imagenet-sample-250"
    expected = Classifier(demo["onnx"]).logits(folder)
    for artifact in preprocessing_artifacts[embedded_preprocessing].values():
        with Classifier(artifact.path) as classifier:
            assert (classifier.logits(folder).argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize(
    "opset",
    [18, pytest.param(21, marks=pytest.mark.slow), pytest.param(23, marks=pytest.mark.slow)],
)
def test_every_supported_opset_gives_the_same_logits(opset, images, demo, tmp_path):
    import onnx

    artifact = export(ExportConfig(model="demo", opset=opset, output_path=tmp_path / "model.onnx"))
    assert onnx.load(artifact.path).opset_import[0].version == opset
    logits = Classifier(artifact.path).logits(images)
    assert np.abs(logits - Classifier(demo["onnx"]).logits(images)).max() < 1e-4


@pytest.fixture(scope="module")
def customized_artifact(tmp_path_factory: pytest.TempPathFactory) -> ExportedArtifact:
    """The demo model at another size and with other labels, in place of an existing file."""
    folder = tmp_path_factory.mktemp("customized_artifact")
    (folder / "names.txt").write_text("\n".join("abcdefghijkl"))
    (folder / "demo_128.onnx").write_text("an older file")
    config = ExportConfig(model="demo", img_size=128, labels=folder / "names.txt", overwrite=True)
    with pytest.MonkeyPatch.context() as patch, shorten_timing():
        patch.chdir(folder)
        artifact = export(config)
    return replace(artifact, path=folder / artifact.path)


def test_another_size_has_its_own_name_and_preprocessing(customized_artifact, images):
    manifest = customized_artifact.manifest
    assert customized_artifact.path.name == "demo_128.onnx"
    assert (manifest.img_size, manifest.preprocess.size) == (128, 128)
    assert len(Classifier(customized_artifact.path).predict(images)) == 2


def test_given_labels_are_in_the_file(customized_artifact):
    manifest = read_artifact(customized_artifact.path).manifest
    assert [label.name for label in manifest.labels] == list("abcdefghijkl")


def test_overwriting_leaves_the_new_file_only(customized_artifact):
    assert sorted(file.name for file in customized_artifact.path.parent.iterdir()) == [
        "demo_128.onnx",
        "names.txt",
    ]


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "demo.onnx").write_text("mine")
    with pytest.raises(RequestError, match="--overwrite"):
        export(ExportConfig(model="demo", output_path=tmp_path))
    assert (tmp_path / "demo.onnx").read_text() == "mine"


@pytest.mark.parametrize("name", ["demo.xml", "demo.bin"])
def test_every_file_of_an_artifact_is_kept(name, traced_demo, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RequestError, match="--overwrite"):
        export(ExportConfig(model="demo", targets=("openvino",), output_path=tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_labels_are_counted_before_anything_is_written(tmp_path):
    config = ExportConfig(
        model="demo", labels=("a", "b", "c"), output_path=tmp_path / "new" / "demo.onnx"
    )
    with pytest.raises(RequestError, match="3 labels were given and the model has 12 classes"):
        export(config)
    assert list(tmp_path.iterdir()) == []


def test_timing_uses_one_thread_and_restores_torchs_threads(traced_demo, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        report = export_all(ExportConfig(model="demo", targets=TARGETS, output_path=tmp_path))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [artifact.engine.threads for artifact in report.artifacts] == [1, 1]


class InterruptedModel(LoweredModel):
    """A model that raises an error in the middle of one of its writes."""

    def __init__(self, lowered: LoweredModel, error: BaseException, interrupted_write: int) -> None:
        self.writes = 0
        self._lowered, self._error = lowered, error
        self._interrupted_write = interrupted_write

    def save(self, path, manifest):
        self.writes += 1
        path.write_bytes(b"half of a file")
        if self.writes == self._interrupted_write:
            raise self._error
        return self._lowered.save(path, manifest)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), OSError(28, "No space left on device")],
    ids=["ctrl-c", "full disk"],
)
@pytest.mark.parametrize("interrupted_write", [1, 2])
def test_an_interrupted_write_leaves_nothing(
    interrupted_write, error, traced_demo, tmp_path, monkeypatch
):
    models, lower = [], OnnxTarget.lower

    def lower_interrupted(self, *arguments):
        models.append(InterruptedModel(lower(self, *arguments), error, interrupted_write))
        return models[-1]

    monkeypatch.setattr(OnnxTarget, "lower", lower_interrupted)
    with pytest.raises(
        (KeyboardInterrupt, RequestError),
        check=lambda raised: raised is error or "the disk is full" in str(raised),
    ):
        export(ExportConfig(model="demo", output_path=tmp_path / "new" / "folder" / "demo.onnx"))
    assert [model.writes for model in models] == [interrupted_write]
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_differs_from_the_network_is_not_written(demo_source, tmp_path):
    original = copy.deepcopy(demo_source.original)
    original.head.fc.bias.data[0] += 1
    with (
        reuse_network(replace(demo_source, original=original)),
        pytest.raises(ArtifactError, match="does not equal the checkpoint's network in PyTorch"),
    ):
        export(ExportConfig(model="demo", output_path=tmp_path / "demo.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_missing_tools_fail_one_target_and_skip_one_of_several(traced_demo, monkeypatch, tmp_path):
    from tinyvit.export.targets.openvino.target import OpenVinoTarget

    def raise_missing(self, *arguments):
        raise MissingDependencyError.for_package("openvino", extra="openvino")

    monkeypatch.setattr(OpenVinoTarget, "lower", raise_missing)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("openvino"))):
        export(ExportConfig(model="demo", targets=("ov",), output_path=tmp_path / "a.xml"))
    report = export_all(
        ExportConfig(model="demo", targets=("onnx", "ov"), output_path=tmp_path / "out")
    )
    assert [artifact.manifest.target for artifact in report.artifacts] == ["onnx"]
    assert [(failure.target, failure.is_skipped) for failure in report.failures] == [
        ("openvino", True)
    ]
