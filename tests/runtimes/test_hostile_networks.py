"""Networks that would run forever or fill the memory are refused before an engine sees them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.conftest import ArtifactBuilder
from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.runtimes.artifact import content_sha256, detect_format, read_artifact, read_manifest
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.classifier import Classifier
from tinyvit.runtimes.formats.protobuf import encode_bytes_field
from tinyvit.runtimes.registry import open_runtime
from tinyvit.runtimes.tensor_limits import check_tensor_sizes


def save_model(path: Path, nodes: list[Any], **changes: Any) -> Path:
    """Save an ONNX model whose last node computes the logits, (batch, 10), from the image."""
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    shape = changes.pop("shape", [1, 3, 8, 8])
    classes = changes.pop("classes", 10)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", float32, shape)],
        [helper.make_tensor_value_info("logits", float32, [shape[0], classes])],
        changes.pop("initializers", []),
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, **changes)
    path.write_bytes(model.SerializeToString())
    return path


def make_loop(count: int, values: int = 192) -> list[Any]:
    """Make nodes that double the image, which has a number of values, `count` times."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["value", "value"], ["sum"]),
        ],
        "body",
        [
            info("index", proto.INT64, []),
            info("go", proto.BOOL, []),
            info("value", proto.FLOAT, None),
        ],
        [info("go_on", proto.BOOL, []), info("sum", proto.FLOAT, None)],
    )
    constant = helper.make_tensor("count", proto.INT64, [], [count])
    size = helper.make_tensor("size", proto.INT64, [2], [1, -1])
    ten = helper.make_tensor("ten", proto.FLOAT, [values, 10], [0.0] * (10 * values))
    return [
        helper.make_node("Constant", [], ["count"], value=constant),
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("Constant", [], ["ten"], value=ten),
        helper.make_node("Loop", ["count", "", "image"], ["looped"], body=body),
        helper.make_node("Reshape", ["looped", "size"], ["flat"]),
        helper.make_node("MatMul", ["flat", "ten"], ["logits"]),
    ]


def test_a_loop_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    path = save_model(tmp_path / "loop.onnx", make_loop(3))
    with pytest.raises(ArtifactError, match=r"do not need \(Loop\).*--allow-foreign-operators"):
        Classifier(path)
    with pytest.warns(UserWarning, match="has no manifest"):
        classifier = Classifier(path, allow_foreign_operators=True)
    with classifier:
        assert len(classifier.labels) == 10


def test_an_endless_loop_is_refused_by_the_command(
    tmp_path: Path, build_artifact: ArtifactBuilder
) -> None:
    onnx = pytest.importorskip("onnx")
    path = save_model(tmp_path / "endless.onnx", make_loop(2**62))
    model, manifest = onnx.load(path), read_manifest(build_artifact())
    assert manifest is not None
    onnx.helper.set_model_props(model, {"tinyvit": manifest.to_json()})
    path.write_bytes(model.SerializeToString())
    start = time.monotonic()
    code = "import sys; from tinyvit.runtimes.cli import verify; sys.exit(verify())"
    words = [str(path), "--timeout", "60"]
    process = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert process.returncode == 1
    assert "Loop" in process.stderr
    assert time.monotonic() - start < 60


def test_an_endless_loop_that_is_allowed_ends_with_the_time_limit(
    tmp_path: Path, build_artifact: ArtifactBuilder
) -> None:
    onnx = pytest.importorskip("onnx")
    nodes = make_loop(2**62, values=3 * 32 * 32)
    path = save_model(tmp_path / "endless.onnx", nodes, shape=["batch", 3, 32, 32])
    model, manifest = onnx.load(path), read_manifest(build_artifact())
    assert manifest is not None
    onnx.helper.set_model_props(model, {"tinyvit": manifest.to_json()})
    path.write_bytes(model.SerializeToString())
    code = "import sys; from tinyvit.runtimes.cli import verify; sys.exit(verify())"
    words = [str(path), "--allow-foreign-operators", "--timeout", "10"]
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert process.returncode == 1
    assert "the check of" in process.stderr
    assert "did not finish in 10 s" in process.stderr
    assert 10 <= time.monotonic() - start < 50


def test_verification_has_a_time_limit(
    build_artifact: ArtifactBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinyvit.runtimes import limited_verification

    monkeypatch.setattr(limited_verification, "_CODE", "import time; time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(ArtifactError, match=r"the check of a.onnx did not finish in 1 s"):
        limited_verification.verify_with_timeout("a.onnx", [], 1)
    assert time.monotonic() - start < 20
    monkeypatch.setattr(limited_verification, "_CODE", "import os; os.abort()")
    with pytest.raises(ArtifactError, match=r"a.onnx ended the process .*signal 6"):
        limited_verification.verify_with_timeout("a.onnx", [], 60)
    monkeypatch.undo()
    path = str(build_artifact())
    assert limited_verification.verify_with_timeout(path, [path, "--timeout", "100"], 100) == 0


@pytest.mark.parametrize(
    ("operator", "domain", "name"),
    [
        ("Expand", "", "Expand"),
        ("ConstantOfShape", "ai.onnx", "ConstantOfShape"),
        ("If", "", "If"),
        ("Scan", "", "Scan"),
        ("SequenceMap", "", "SequenceMap"),
        ("BeamSearch", "com.microsoft", "com.microsoft::BeamSearch"),
        ("Run", "my.library", "my.library::Run"),
        ("", "", "an operator without a name"),
    ],
)
def test_other_operators_are_named(tmp_path: Path, operator: str, domain: str, name: str) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node(operator, ["image"], ["logits"], domain=domain)
    path = save_model(tmp_path / "a.onnx", [node])
    assert detect_format(path).read_graph(path).foreign_operators == {name}


def test_functions_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    inner = helper.make_node("Relu", ["x"], ["y"])
    function = helper.make_function("f", "F", ["x"], ["y"], [inner], [helper.make_opsetid("", 18)])
    node = helper.make_node("Relu", ["image"], ["logits"])
    path = save_model(tmp_path / "a.onnx", [node], functions=[function])
    assert detect_format(path).read_graph(path).foreign_operators == {"a function"}


@pytest.mark.parametrize("layer", ["Loop", "TensorIterator", "If", "Assign", "ReadValue", "Custom"])
def test_an_ir_with_a_loop_is_refused(tmp_path: Path, layer: str) -> None:
    path = tmp_path / "a.xml"
    path.with_suffix(".bin").write_bytes(b"")
    path.write_text(f'<net name="a"><layers><layer id="0" type="{layer}" /></layers></net>')
    with pytest.raises(ArtifactError, match=rf"do not need \({layer}\)"):
        open_runtime(path, "openvino")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([10**6, 3, 8, 8], "batches of 1000000 images, more than 4096"),
        ([4096, 3, 224, 224], r"takes 2.3 GiB, more than 1"),
        ([1, 3, 8192, 8192], "images of 8192 x 8192 pixels, more than 4096"),
        ([1, 3, 8, 10**9], "images of 8 x 1000000000 pixels"),
    ],
)
def test_a_huge_input_is_refused(tmp_path: Path, shape: list[int], message: str) -> None:
    onnx = pytest.importorskip("onnx")
    sizes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])
    nodes = [onnx.helper.make_node("ReduceMean", ["image", "axes"], ["logits"], keepdims=0)]
    path = save_model(tmp_path / "a.onnx", nodes, shape=shape, classes=3, initializers=[sizes])
    with pytest.raises(ArtifactError, match=message):
        Classifier(path)


@pytest.mark.parametrize("dtype", ["float32", "no such type", "uint8"])
def test_the_sizes_in_a_manifest_are_checked(dtype: str) -> None:
    logits = TensorSpec("logits", ("batch", 1_000_001), "float32", "NC")
    image = TensorSpec("image", (1, 3, 224, 224), dtype, "NCHW")
    check_tensor_sizes((image,), (), "a.onnx")
    with pytest.raises(ArtifactError, match="more than 1000000 classes"):
        check_tensor_sizes((image,), (logits,), "a.onnx")
    # No float represents the product of these sizes.
    image = TensorSpec("image", (2**62,) * 20, dtype, "NCHW")
    with pytest.raises(
        ArtifactError, match=r"\d, \.\.\.\), .* takes over 1,073,741,824 GiB, more than 1"
    ):
        check_tensor_sizes((image,), (), "a.onnx")


@pytest.mark.parametrize("dtype", ["a,b\n=1", "\ud800", "(" * 100_000, "9" * 30 + "f4", "nothing"])
def test_the_name_of_an_element_type_is_not_interpreted(dtype: str) -> None:
    image = TensorSpec("image", (1, 3, 4096, 4096), dtype, "NCHW")
    check_tensor_sizes((image,), (), "a.onnx")  # 48 MiB of elements of one byte
    image = TensorSpec("image", (64, 3, 4096, 4096), dtype, "NCHW")
    with pytest.raises(ArtifactError, match=r"takes 3\.0 GiB, more than 1"):
        check_tensor_sizes((image,), (), "a.onnx")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (7, b"\x0a\xa0\x8d\x06" + b"\x0a\0" * 50_000),  # a graph with a node of 50,000 inputs
        (14, b"\x12\0" * 50_000),  # metadata with an entry of 50,000 texts
    ],
)
def test_an_onnx_file_with_millions_of_fields_is_refused(
    tmp_path: Path, number: int, value: bytes
) -> None:
    """The file has 5 MB and 2.5 million fields, and no message has more than 50,000."""
    path = tmp_path / "a.onnx"
    smallest_model = b"\x08\x09" + encode_bytes_field(7, b"")
    path.write_bytes(smallest_model + encode_bytes_field(number, value) * 50)
    artifact_format = detect_format(path)
    read = artifact_format.read_graph if number == 7 else artifact_format.read_manifests
    with pytest.raises(ArtifactError, match="more than 2000000 fields and numbers in all"):
        read(path)


def test_an_onnx_file_with_large_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    entry = encode_bytes_field(1, b"tinyvit") + encode_bytes_field(2, b"0" * (33 << 20))
    smallest_model = b"\x08\x09" + encode_bytes_field(7, b"")
    path.write_bytes(smallest_model + encode_bytes_field(14, entry) * 2)
    with pytest.raises(ArtifactError, match="is larger than 64 MiB"):
        detect_format(path).read_manifests(path)


def test_comments_before_the_root_take_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for piece in ("<!-- -->", "<!---->", "<!-- - -->", "<!--", "<?a?>", " "):
        path.write_text(piece * 400)
        start = time.process_time()
        with pytest.raises(ArtifactError):
            detect_format(path)
        assert time.process_time() - start < 1


@pytest.mark.parametrize("encoding", ["utf-7", "utf-32", "shift-jis", "no-such-encoding"])
def test_xml_in_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?><net name="a"></net>')
    with pytest.raises(ArtifactError, match=r"damaged|not in UTF-8"):
        read_artifact(path)


def test_special_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="device"):
        read_artifact("/dev/zero")
    path = tmp_path / "a.tflite"
    with path.open("wb") as file:
        file.write(b"\0\0\0\0TFL3")
        file.truncate(2**31)
    with pytest.raises(ArtifactError, match=r"has 2.0 GiB, and the largest"):
        read_artifact(path)


def test_a_package_with_links_or_many_files_is_refused_first(tmp_path: Path) -> None:
    package = tmp_path / "a.mlpackage"
    model = package / "Data" / "model.mlmodel"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"\x08\x01")
    index = '{"rootModelIdentifier": "x", "itemInfoEntries": {"x": {"path": "model.mlmodel"}}}'
    (package / "Manifest.json").write_text(index)
    assert read_manifest(package) is None
    (package / "Data" / "link").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match="contains links"):
        read_manifest(package)
    (package / "Data" / "link").unlink()
    with (package / "Data" / "weight.bin").open("wb") as weights:
        weights.truncate(2**40)
    with pytest.raises(ArtifactError, match=r"has 1024.0 GiB, and the largest"):
        read_manifest(package)
    (package / "Data" / "weight.bin").unlink()
    for number in range(1001):
        (package / "Data" / f"folder{number}").mkdir()
    with pytest.raises(ArtifactError, match="more than 1000 files and folders"):
        read_manifest(package)


def test_a_package_with_a_hidden_model_or_an_unreadable_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither would be part of the hash."""
    package = tmp_path / "a.mlpackage"
    model = package / "Data" / ".model.mlmodel"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"\x08\x01")
    index = '{"rootModelIdentifier": "x", "itemInfoEntries": {"x": {"path": "%s"}}}'
    (package / "Manifest.json").write_text(index % ".model.mlmodel")
    with pytest.raises(ArtifactError, match="names a hidden file"):
        read_manifest(package)
    model.rename(package / "Data" / "model.mlmodel")
    (package / "Manifest.json").write_text(index % "model.mlmodel")
    assert read_manifest(package) is None
    folder = package
    for _ in range(3):
        folder /= "d" * 255
        folder.mkdir()
    monkeypatch.chdir(folder)
    for _ in range(20):  # longer than a path may be
        os.mkdir("d" * 255)
        os.chdir("d" * 255)
    with pytest.raises(ArtifactError, match="cannot be read \\(File name too long\\)"):
        read_manifest(package)


def test_an_engine_never_sees_a_refused_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinyvit.runtimes.engines.onnxruntime import OnnxRuntimeEngine

    def fail(*_: object) -> None:
        pytest.fail("the engine was called")

    monkeypatch.setattr(OnnxRuntimeEngine, "open", fail)
    path = save_model(tmp_path / "loop.onnx", make_loop(2**62))
    with pytest.raises(ArtifactError, match="Loop"):
        open_runtime(path, "onnxruntime", RuntimeOptions())


def test_weights_of_an_openvino_model_in_a_file_of_the_kernel_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<net name="a"><layers></layers></net>')
    path.with_suffix(".bin").symlink_to("/proc/self/environ")
    with pytest.raises(ArtifactError, match="not a regular file"):
        content_sha256(path)
