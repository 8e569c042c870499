"""Every kind of teacher gives probabilities for images, or is refused with a reason."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.distill_data import CLASSES, TEACHER, name_teacher
from tests.helpers.small_classifiers import make_manifest
from tinyvit.distill.logits import module_teachers, teachers
from tinyvit.distill.logits.teachers import average_probabilities, open_teachers
from tinyvit.distill.training.device import ComputeDevice, select_device
from tinyvit.distill.training.network.student import make_student, save_checkpoint
from tinyvit.errors import TinyViTError
from tinyvit.export import ExportConfig, export
from tinyvit.labels import labels_by_wnid
from tinyvit.manifest_parts import TensorSpec
from tinyvit.nn.timm_models import import_timm
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes import open_runtime
from tinyvit.runtimes import processor as cpu
from tinyvit.runtimes.artifact import Artifact, content_sha256

HERE = ComputeDevice("cpu", uses_bfloat16=False)
PIXELS = np.random.RandomState(0).randint(0, 256, (5, 64, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of three classes at 64 pixels, with random weights."""
    labels = tuple(labels_by_wnid()[name] for name in CLASSES)
    student = make_student("tiny_vit_5m_224", None, labels, 3, 64, seed=0)
    torch.nn.init.normal_(student.model.head.fc.weight)
    path = tmp_path_factory.mktemp("checkpoint") / "teacher.safetensors"
    save_checkpoint(path, student.model.state_dict(), labels, student.preprocess, "mit")
    return path


@pytest.mark.parametrize("batch", [1, 2])
def test_an_exported_teacher_predicts_what_its_checkpoint_predicts(
    checkpoint: Path, tmp_path: Path, batch: int
) -> None:
    export(ExportConfig(checkpoint=checkpoint, output_path=tmp_path / "teacher.onnx", batch=batch))
    from_checkpoint, from_artifact = (
        open_teachers((str(path),), None, HERE)[0]
        for path in (checkpoint, tmp_path / "teacher.onnx")
    )
    assert from_checkpoint.labels == from_artifact.labels
    assert [label.wnid for label in from_checkpoint.labels or ()] == list(CLASSES)
    np.testing.assert_allclose(
        from_checkpoint.predict_probabilities(PIXELS),
        from_artifact.predict_probabilities(PIXELS),
        atol=1e-5,
    )


def test_a_core_ml_package_is_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coreml_package = pytest.importorskip("tests.helpers.coreml_package", reason="builds a package")
    path = coreml_package.build_package(tmp_path, coreml_package.build_gelu_and_linear)
    manifest = dataclasses.replace(
        make_manifest("host", 1),
        input=TensorSpec("x", coreml_package.SHAPE, "float32", "NCHW"),
        preprocess=Preprocess(8, 8),
    )
    artifact = Artifact(path, manifest)
    monkeypatch.setattr(teachers, "read_artifact", lambda path: artifact)
    monkeypatch.setattr(
        teachers, "open_runtime", lambda artifact: open_runtime(artifact, "coreml-reference")
    )
    (teacher,) = open_teachers((str(path),), None, HERE)
    assert teacher.sha256 == content_sha256(path)
    assert teacher.predict_probabilities(PIXELS[:, :8, :8]).shape == (5, 10)


def test_predictions_of_several_teachers_are_averaged(checkpoint: Path) -> None:
    three = name_teacher("three_classes")
    first, second = open_teachers((three, three), 64, HERE)
    np.testing.assert_allclose(
        average_probabilities([first, second], PIXELS), first.predict_probabilities(PIXELS)
    )
    both = [open_teachers((name,), 64, HERE)[0] for name in (three, str(checkpoint))]
    mean = (both[0].predict_probabilities(PIXELS) + both[1].predict_probabilities(PIXELS)) / 2
    np.testing.assert_allclose(average_probabilities(both, PIXELS), mean)
    np.testing.assert_allclose(average_probabilities(both, PIXELS).sum(1), 1)


def test_a_released_model_is_opened_by_its_name() -> None:
    (teacher,) = open_teachers(("demo",), None, HERE)
    assert (teacher.name, teacher.num_classes, teacher.preprocess.size) == ("demo", 12, 224)


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (("resnet50",), None, "no teacher is called 'resnet50'"),
        (("missing.safetensors",), None, "missing.safetensors cannot be read"),
        (
            (name_teacher("missing_package"),),
            None,
            "needs no_such_package, which is not installed",
        ),
        ((name_teacher("absent"),), None, "has no attribute 'absent'"),
        ((name_teacher("not_a_module"),), None, "returned an object of type str"),
        (
            (name_teacher("two_outputs"),),
            None,
            "returns an object of type tuple: it must return one tensor",
        ),
        ((name_teacher("fixed_size"),), None, "fixed_size failed"),
        ((name_teacher("wrong_labels"),), None, "is not a tuple of 3 labels"),
        (("no/file.py:x",), None, "is not a Python file"),
        (("no_such_module:x",), None, "needs no_such_module, which is not installed"),
        ((TEACHER, name_teacher("three_classes")), None, "have different classes"),
        ((name_teacher("only_224"),), 96, "only_224 runs at 224 pixels, not 96: use --img-size"),
    ],
)
def test_unusable_teachers_are_refused(
    names: tuple[str, ...], size: int | None, message: str
) -> None:
    with pytest.raises(TinyViTError, match=message):
        open_teachers(names, size, HERE)


def test_a_timm_model_is_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are random, because a test cannot download them; the real call fails offline."""
    if not find_spec("timm"):
        pytest.skip("timm is not installed")
    timm = import_timm()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: real(name, pretrained=False))
    (teacher,) = open_teachers(("timm:resnet18.a1_in1k",), None, HERE)
    assert (teacher.num_classes, teacher.preprocess.size) == (1000, 224)
    np.testing.assert_allclose(teacher.predict_probabilities(PIXELS).sum(1), 1)
    monkeypatch.undo()
    with pytest.raises(TinyViTError, match="timm cannot create no_such_model"):
        open_teachers(("timm:no_such_model",), None, HERE)


def test_an_exported_teacher_has_one_size(checkpoint: Path, tmp_path: Path) -> None:
    export(ExportConfig(checkpoint=checkpoint, output_path=tmp_path / "teacher.onnx"))
    with pytest.raises(TinyViTError, match="runs at 64 pixels, not 96"):
        open_teachers((str(tmp_path / "teacher.onnx"),), 96, HERE)


def test_a_teacher_that_resizes_itself_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "full.onnx"
    export(ExportConfig(checkpoint=checkpoint, output_path=path, preprocess="full"))
    with pytest.raises(TinyViTError, match="does not take normalized images"):
        open_teachers((str(path),), None, HERE)


def test_a_file_with_a_dataclass_and_bfloat16_weights_is_a_teacher() -> None:
    (teacher,) = open_teachers((name_teacher("with_settings"),), 64, HERE)
    assert teacher.predict_probabilities(PIXELS).shape == (5, 3)
    weight = torch.zeros(2, dtype=torch.bfloat16)
    modules = [torch.nn.Linear(2, 1, bias=False) for _ in range(2)]
    modules[0].weight.data = weight
    modules[1].weight.data = weight + 1
    first, second = (module_teachers.hash_weights(module) for module in modules)
    assert first != second
    # The name of the tensor and its bytes, 0x0000 twice and 0x3f80 twice in little-endian order.
    assert second == hashlib.sha256(b"weight\x80\x3f\x80\x3f").hexdigest()


def test_a_file_is_not_mistaken_for_an_installed_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise ValueError('half of the file')")
    with pytest.raises(TinyViTError, match="half of the file"):
        open_teachers((f"{tmp_path / 'json.py'}:make",), None, HERE)
    assert "_teacher_json" not in sys.modules
    assert not hasattr(sys.modules["json"], "make")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has its own rule")
def test_bfloat16_is_used_only_if_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "read_flags", lambda: frozenset({"avx512f"}))
    assert not select_device("auto").uses_bfloat16
    with pytest.raises(TinyViTError, match="no bfloat16 instructions"):
        select_device("bfloat16")
    monkeypatch.setattr(cpu, "read_flags", lambda: frozenset({"avx512_bf16"}))
    assert select_device("auto").uses_bfloat16
    assert not select_device("float32").uses_bfloat16
