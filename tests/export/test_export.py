import os
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit import Classifier  # noqa: E402
from tinyvit.errors import RequestError  # noqa: E402
from tinyvit.export import baseline_timing as timing  # noqa: E402
from tinyvit.export import export, pipeline, targets  # noqa: E402
from tinyvit.export.targets.onnx.target import OnnxTarget  # noqa: E402
from tinyvit.nn import hub  # noqa: E402
from tinyvit.runtimes.artifact import read_manifest  # noqa: E402
from tinyvit.runtimes.engines.openvino import shared_core  # noqa: E402
from tinyvit.runtimes.registry import open_runtime  # noqa: E402
from tinyvit.runtimes.verify import verify  # noqa: E402
from tinyvit.variants import VARIANTS  # noqa: E402

TARGETS = ["onnx", "openvino"]
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "tiny_vit_5m_224"
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """These tests are about what is made, not how fast it is: the least timing there is."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(timing, "ROUNDS", 1)


@pytest.mark.parametrize("layout", ["timm", "official"])
@pytest.mark.parametrize("variant", ["tiny_vit_5m_224", *SLOW])
def test_exported_logits_are_the_public_implementations(
    variant, layout, shared, fill, golden_state, tmp_path
):
    torch.save({"model": golden_state(variant, layout)}, tmp_path / "weights.pth")
    made, failed = export(
        checkpoint=tmp_path / "weights.pth", target=["onnx", "openvino"], output=tmp_path / "out"
    )
    expected = np.load(shared / "golden" / f"{variant}.{layout}.npz")["logits"]
    images = fill.image(VARIANTS[variant].img_size, len(expected))
    assert [one.manifest.target for one in made] == TARGETS
    assert failed == []
    runs = [
        (one.path, engine)
        for one in made
        for engine in (["onnxruntime", "openvino"] if one.path.suffix == ".onnx" else ["openvino"])
    ]
    for path, engine in runs:
        with open_runtime(path, engine) as runtime:
            logits = np.concatenate([runtime.run(image[None]) for image in images])
        assert np.abs(logits - expected).max() < 1e-3


@pytest.mark.parametrize("target", TARGETS)
def test_manifest_says_what_the_file_is(demo, target):
    manifest = read_manifest(demo[target])
    source = hub.load_released("demo")
    assert (
        manifest.model,
        manifest.variant,
        manifest.target,
        manifest.precision,
        manifest.stage,
    ) == (
        "demo",
        "tiny_vit_5m_224",
        target,
        "float32",
        "host",
    )
    assert (manifest.labels, manifest.preprocess, manifest.license) == (
        source.labels,
        source.preprocess,
        "MIT",
    )
    assert manifest.source.sha256 == source.sha256
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
        x for x in model.graph.initializer if x.name == "stages.2.blocks.3.mlp.fc1.weight"
    )
    values = onnx.numpy_helper.to_array(weight).copy()
    values[7, 11] += 3.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "changed.onnx")
    verification = verify(tmp_path / "changed.onnx")
    assert not verification.passed
    assert not verification.content_unchanged
    assert verification.max_abs_diff > verification.tolerance


def test_onnx_file_is_pinned_and_says_nothing_of_this_machine(demo):
    import onnx

    model = onnx.load(demo["onnx"])
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(x.domain, x.version) for x in model.opset_import]) == (
        9,
        [("", 20)],
    )
    assert model.functions == []
    data = demo["onnx"].read_bytes()
    assert os.getcwd().encode() not in data
    assert sys.prefix.encode() not in data
    assert demo["onnx"].stat().st_size < 22e6


def test_attention_biases_are_small_in_the_file_and_folded_when_loaded(demo, tmp_path):
    import onnx
    import onnxruntime

    model = onnx.load(demo["onnx"])
    assert sum(node.op_type == "Gather" for node in model.graph.node) == 10
    indices = [x for x in model.graph.initializer if x.name.startswith("bias_index")]
    assert [(list(x.dims), x.data_type) for x in indices] == [
        ([7**4], onnx.TensorProto.INT32),
        ([14**4], onnx.TensorProto.INT32),
    ]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(demo["onnx"], options, providers=["CPUExecutionProvider"])
    assert not any(
        "Gather" in node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node
    )
    for path in demo.values():
        compiled = shared_core().compile_model(str(path), "CPU")
        kinds = [
            op.get_rt_info()["layerType"].astype(str)
            for op in compiled.get_runtime_model().get_ops()
        ]
        assert "FullyConnected" in kinds
        assert not any("Gather" in kind for kind in kinds)
    assert demo["openvino"].with_suffix(".bin").stat().st_size < 22e6


def test_graph_has_few_copies_and_no_control_flow(demo):
    import onnx

    model = onnx.load(demo["onnx"])
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {
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
def test_same_input_same_bytes(demo, tmp_path):
    made, _ = export("demo", target=["onnx", "openvino"], output=tmp_path)
    for one in made:
        assert [file.read_bytes() for file in one.files] == [
            (demo["onnx"].parent / file.name).read_bytes() for file in one.files
        ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"dynamic_batch": True}, {"batch": 3}], ids=["dynamic", "fixed"]
)
def test_batches(demo, images, options, tmp_path):
    made, _ = export("demo", target=["onnx", "openvino"], output=tmp_path, **options)
    pictures = [images / "cat.jpg", images / "coffee.jpg"] * 2
    expected = Classifier(demo["onnx"]).logits(pictures)
    for one in made:
        with Classifier(one.path) as classifier:
            assert np.abs(classifier.logits(pictures) - expected).max() < 1e-4
        assert verify(one.path).passed
        assert one.manifest.input.shape[0] == options.get("batch", "batch")


@pytest.mark.parametrize("stage", ["normalize", "full"])
def test_preprocessing_in_the_file(demo, images, stage, tmp_path):
    made, _ = export("demo", target=["onnx", "openvino"], preprocess=stage, output=tmp_path)
    expected = Classifier(demo["onnx"]).logits(images)
    for one in made:
        with Classifier(one.path) as classifier:
            assert np.abs(classifier.logits(images) - expected).max() < (
                1e-4 if stage == "normalize" else 0.05
            )
        assert verify(one.path).passed
    if stage == "full":
        with pytest.raises(RequestError, match="--target openvino --preprocess full"):
            Classifier(tmp_path / "demo.onnx", runtime="openvino")


@pytest.mark.slow
def test_top1_is_the_host_paths_on_every_photograph(demo, shared, tmp_path):
    folder = shared / "data" / "imagenet-sample-250"
    expected = Classifier(demo["onnx"]).logits(folder)
    for stage in ("normalize", "full"):
        made, _ = export(
            "demo", target=["onnx", "openvino"], preprocess=stage, output=tmp_path / stage
        )
        for one in made:
            with Classifier(one.path) as classifier:
                assert (classifier.logits(folder).argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize(
    "opset",
    [18, pytest.param(21, marks=pytest.mark.slow), pytest.param(23, marks=pytest.mark.slow)],
)
def test_opset(opset, images, demo, tmp_path):
    import onnx

    export("demo", opset=opset, output=tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == opset
    assert (
        np.abs(
            Classifier(tmp_path / "model.onnx").logits(images)
            - Classifier(demo["onnx"]).logits(images)
        ).max()
        < 1e-4
    )


def test_another_size_has_its_own_name_and_preprocessing(tmp_path, monkeypatch, images):
    monkeypatch.chdir(tmp_path)
    made, _ = export("demo", img_size=128)
    assert (made[0].path.name, made[0].manifest.img_size, made[0].manifest.preprocess.size) == (
        "demo_128.onnx",
        128,
        128,
    )
    assert len(Classifier("demo_128.onnx").predict(images)) == 2


def test_labels_of_the_users_own(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    made, _ = export("demo", labels=tmp_path / "names.txt", output=tmp_path / "a.onnx")
    assert [label.name for label in made[0].manifest.labels] == list("abcdefghij")


@pytest.mark.parametrize("others", ["demo.xml", "demo.bin"])
def test_no_file_of_an_artifact_replaces_another(others, tmp_path):
    (tmp_path / others).write_text("mine")
    with pytest.raises(RequestError, match="--overwrite"):
        export("demo", target="openvino", output=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [others]
    assert (tmp_path / others).read_text() == "mine"


def test_labels_are_counted_before_anything_is_made(tmp_path):
    with pytest.raises(RequestError, match="3 labels were given and the model has 10 classes"):
        export("demo", labels=["a", "b", "c"], output=tmp_path / "new" / "b.onnx")
    assert list(tmp_path.iterdir()) == []


def test_timing_is_on_one_thread_each_and_leaves_torchs_threads_alone(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    made, _ = export("demo", target=["onnx", "openvino"], output=tmp_path)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert [one.engine["threads"] for one in made] == [1, 1]


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "demo.onnx").write_text("mine")
    with pytest.raises(RequestError, match="--overwrite"):
        export("demo", output=tmp_path)
    assert (tmp_path / "demo.onnx").read_text() == "mine"
    export("demo", output=tmp_path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["demo.onnx"]


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), OSError(28, "No space left on device")],
    ids=["ctrl-c", "full disk"],
)
@pytest.mark.parametrize("at", [1, 2])
def test_interrupted_at_every_write_nothing_is_left(at, error, tmp_path, monkeypatch):
    writes = []

    class Interrupted(OnnxTarget):
        def lower(self, *arguments):
            lowered = super().lower(*arguments)

            class Saver(targets.LoweredModel):
                def save(self, path, manifest):
                    writes.append(path)
                    path.write_bytes(b"float16")
                    if len(writes) == at:
                        raise error
                    return lowered.save(path, manifest)

            return Saver()

    monkeypatch.setattr(targets, "get_target", lambda name: Interrupted())
    with pytest.raises(
        (KeyboardInterrupt, RequestError),
        check=lambda raised: raised is error or "the disk is full" in str(raised),
    ):
        export("demo", output=tmp_path / "new" / "folder" / "demo.onnx")
    assert len(writes) == at
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_that_differs_is_not_handed_over(tmp_path, monkeypatch):
    from tinyvit.errors import ArtifactError

    original = pipeline.fold

    def broken(model):
        folded = original(model)
        folded.head.fc.bias.data[0] += 1
        return folded

    monkeypatch.setattr(pipeline, "fold", broken)
    with pytest.raises(ArtifactError, match="does not equal torch, before folding"):
        export("demo", output=tmp_path / "demo.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_tools(monkeypatch, tmp_path):
    """A target asked for by name whose tools are absent is an error when alone, and reported beside the others that were made."""
    from tinyvit.errors import MissingDependencyError
    from tinyvit.export.targets.openvino.target import OpenVinoTarget

    def absent(self, *arguments):
        raise MissingDependencyError.of("openvino", "openvino")

    monkeypatch.setattr(OpenVinoTarget, "lower", absent)
    with pytest.raises(MissingDependencyError, match=r"tinyvit-edge\[openvino\]"):
        export("demo", target="ov", output=tmp_path / "a.xml")
    made, failed = export("demo", target=["onnx", "ov"], output=tmp_path / "out")
    assert ([one.manifest.target for one in made], [one.target for one in failed]) == (
        ["onnx"],
        ["openvino"],
    )
