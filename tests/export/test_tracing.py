"""What torch's exporter refuses comes out as one line."""

import pytest

from tinyvit.errors import ArtifactError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from tinyvit.export import tracing as graph  # noqa: E402


class Undecided(torch.nn.Module):
    """Which way it goes hangs on its input."""

    img_size, num_classes = 32, 2

    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Foreign(torch.nn.Module):
    """An operation that ONNX has none for."""

    img_size, num_classes = 32, 3

    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_a_network_that_cannot_be_traced():
    with pytest.raises(ArtifactError, match="tracing the network failed") as error:
        graph.trace(Undecided())
    assert "\n" not in str(error.value)
    assert "constraints.txt" in error.value.remedy
    assert error.value.__cause__ is not None


def test_a_network_that_onnx_cannot_hold():
    traced = graph.trace(Foreign())
    with pytest.raises(ArtifactError, match="writing the network as ONNX failed") as error:
        traced.onnx()
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is not None


def test_other_errors_of_ours_and_the_systems_pass():
    for error in (ArtifactError("a", "b"), OSError(28, "full"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, graph.in_one_line("it"):
            raise error
        assert raised.value is error
