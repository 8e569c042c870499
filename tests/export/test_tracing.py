"""Errors of torch's exporter become errors of one line."""

from __future__ import annotations

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import OutputSpec

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from tinyvit.export.tracing import explain_tool_errors, trace  # noqa: E402 (after importorskip)


class BranchingNetwork(torch.nn.Module):
    """A network whose control flow depends on its input."""

    img_size, num_classes = 32, 2

    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class EigenvalueNetwork(torch.nn.Module):
    """A network with an operation that ONNX does not have."""

    img_size, num_classes = 32, 3

    def describe_outputs(self):
        return (OutputSpec("logits", ("batch", 3), "float32", "NC"),)

    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_a_network_that_cannot_be_traced_is_an_error_of_one_line():
    with pytest.raises(ArtifactError, match="tracing the network failed") as error:
        trace(BranchingNetwork())
    assert "\n" not in str(error.value)
    assert "constraints.txt" in error.value.remedy
    assert error.value.__cause__ is not None


def test_a_network_that_onnx_cannot_express_is_an_error_of_one_line():
    graph = trace(EigenvalueNetwork())
    with pytest.raises(ArtifactError, match="writing the network as ONNX failed") as error:
        graph.to_onnx()
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is not None


@pytest.mark.parametrize(
    "error",
    [ArtifactError("cause", "remedy"), OSError(28, "full"), KeyboardInterrupt()],
    ids=["own error", "full disk", "ctrl-c"],
)
def test_errors_that_need_no_explanation_pass_unchanged(error):
    with pytest.raises(type(error)) as raised, explain_tool_errors("the task"):
        raise error
    assert raised.value is error
