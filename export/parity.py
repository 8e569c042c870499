"""What an artifact is held against its network in: its own engine, or what stands for it where that does not run on this machine.

Core ML runs on Apple's devices only, TensorRT on NVIDIA's; their files are made anywhere. Accuracy is then measured in onnxruntime, on the
same numbers in the same places; the logits in a reference evaluator, or in the graph that the file was made from. Speed is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export import targets
from tinyvit.export.baseline_timing import ONE_THREAD
from tinyvit.export.targets import LoweredModel, Target
from tinyvit.manifest import Precision, PreprocessStage
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.registry import open_runtime

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph


class StandIn(Target):
    """A target's placement in a file for onnxruntime: the same scales in the same places, in the types that its kernels are quick with."""

    suffix = ".onnx"

    def __init__(self, target: Target) -> None:
        self._onnx = targets.get_target("onnx")
        self.name, self.extra, self.tools = target.name, self._onnx.extra, self._onnx.tools
        self.scheme = replace(
            target.scheme, activations="uint8", biases="int32", weights="integers"
        )

    def lower(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> LoweredModel:
        """See `Target.lower`."""
        return self._onnx.lower(graph, preprocess, stage, precision)


def measurable(target: Target) -> Target:
    """The target, or what accuracy is measured in instead of it on this machine."""
    return target if target.parity_method == "engine" else StandIn(target)


def require(target: Target) -> None:
    """Raise MissingDependencyError where one of the target's tools is not installed, before any work is done."""
    for tool in target.tools:
        try:
            metadata.version(tool)
        except metadata.PackageNotFoundError as error:
            raise MissingDependencyError.of(tool, target.extra) from error


@contextmanager
def opened(target: Target, artifact: Artifact, graph: Graph) -> Iterator[Runtime]:
    """What the artifact's logits are read from: see `Target.parity_method`."""
    assert artifact.manifest is not None
    manifest = artifact.manifest
    if target.parity_method == "engine":
        with open_runtime(artifact, None, ONE_THREAD) as runtime:
            yield runtime
    elif target.parity_method == "reference":
        with open_runtime(artifact, target.reference_engine) as runtime:
            yield runtime
    else:
        path = artifact.path.with_name("graph.onnx")
        path.write_bytes(
            target.parity_model(graph, manifest.preprocess, manifest.stage, manifest.precision)
        )
        with open_runtime(Artifact(path, manifest), "onnxruntime", ONE_THREAD) as runtime:
            yield runtime
