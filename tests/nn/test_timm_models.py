"""timm's models return the outputs of an artifact that they are compared with."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from tests.helpers.small_encoders import EMBEDDING, FEATURES
from tinyvit.errors import RequestError
from tinyvit.nn.timm_models import find_output_request, make_timm_model
from tinyvit.outputs import LOGITS, OutputRequest, make_output_request


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize(
    ("output", "shapes"),
    [
        (LOGITS, [(1, 1000)]),
        (make_output_request("embedding"), [(1, 320)]),
        (make_output_request("features", (1, 3)), [(1, 128, 8, 8), (1, 320, 2, 2)]),
    ],
)
def test_a_model_of_timm_returns_the_requested_output(
    output: OutputRequest, shapes: list[tuple[int, ...]]
) -> None:
    with torch.inference_mode():
        outputs = make_timm_model("tiny_vit_5m_224", output)(torch.zeros(1, 3, 64, 64))
    tensors = outputs if isinstance(outputs, list) else [outputs]
    assert [tuple(tensor.shape) for tensor in tensors] == shapes


def test_the_request_follows_from_the_outputs_of_an_artifact() -> None:
    assert find_output_request((EMBEDDING,)) == make_output_request("embedding")
    assert find_output_request(FEATURES) == make_output_request("features", (0, 1))
    with pytest.raises(RequestError, match="timm's model does not return stage0, neck"):
        find_output_request((FEATURES[0], replace(FEATURES[1], name="neck")))
