"""Networks that need too much memory for one run are refused before they are calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit.errors import RequestError
from tinyvit.export import ExportConfig, export, export_all, pipeline
from tinyvit.export.checks.run_cost import explain_run_cost
from tinyvit.export.targets import get_target, target_names
from tinyvit.export.tracing import trace
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS


@pytest.fixture
def no_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if an export computes golden vectors or calibrates."""

    def fail(*_arguments: Any) -> None:
        pytest.fail("the export has gone on to the preparation of the network")

    monkeypatch.setattr(pipeline, "make_preparer", fail)


# The first stage takes 6.89 MiB for each image: 445 images take 2.99 GiB, and 446 take 3.0012.
def test_a_batch_that_needs_more_than_3_gib_is_refused(
    no_preparation: None, tmp_path: Path
) -> None:
    config = ExportConfig(model="demo", output_path=tmp_path / "a.onnx", batch=446)
    message = (
        "--batch 446 at 224 x 224 pixels is too much for a run: the artifact is refused, because it"
        " needs 3.0 GiB of memory for one run, more than 3: give a smaller --batch, or"
        " --dynamic-batch for any number of images"
    )
    with pytest.raises(RequestError) as caught:
        export(config)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []
    report = export_all(config)
    assert report.artifacts == ()
    assert [(failure.target, str(failure.error)) for failure in report.failures] == [
        ("onnx", message)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "is_refused"), [(445, False), (446, True)])
def test_the_limit_is_445_images(batch: int, is_refused: bool) -> None:
    model = fold_model(TinyViT(VARIANTS["tiny_vit_5m_224"], 10).eval())
    assert (explain_run_cost(trace(model, batch=batch)) is not None) is is_refused


def test_only_the_target_for_gpus_has_no_limit() -> None:
    limited = {name: get_target(name).has_run_cost_limit for name in target_names()}
    assert [name for name, is_limited in limited.items() if not is_limited] == ["tensorrt"]


def test_an_input_above_1_gib_is_refused_before_tracing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # 4096 x 3 x 224 x 224 x 4 bytes are 2.3 GiB.
    config = ExportConfig(model="demo", output_path=tmp_path / "a.onnx", batch=4096)
    monkeypatch.setattr("tinyvit.export.source_network.trace", None)
    with pytest.raises(
        RequestError, match=r"^--batch 4096 at 224 x 224 pixels is .* takes 2.3 GiB, more than 1: "
    ):
        export(config)


@pytest.mark.slow
def test_windows_that_are_too_large_are_refused() -> None:
    model = TinyViT(VARIANTS["tiny_vit_21m_224"], 10, 1024, (32, 32, 64, 32))
    error = explain_run_cost(trace(fold_model(model.eval())))
    assert error is not None
    assert str(error) == (
        "one image at 1024 x 1024 pixels is too much for a run: the artifact is refused, because it"
        " needs 3.1 GiB of memory for one run, more than 3: give a smaller --img-size, or --windows"
        " checkpoint"
    )


@pytest.mark.slow
def test_a_dynamic_batch_counts_as_eight_images() -> None:
    model = TinyViT(VARIANTS["tiny_vit_21m_512"], 10)
    error = explain_run_cost(trace(fold_model(model.eval()), batch=None))
    assert error is not None
    assert error.cause.startswith(
        "--dynamic-batch, which counts as 8 images, at 512 x 512 pixels is too much for a run: "
    )
    assert error.remedy == "give --batch 1, a smaller --img-size, or --windows checkpoint"
