"""Measures parity: whether an artifact computes the same logits as the network it was made from.

Core ML runs only on Apple's devices and TensorRT only on NVIDIA's GPUs, but their files can be made
on other machines. If a target's engine does not run on this machine, the logits are computed by a
reference evaluator of the file format, or by onnxruntime from the ONNX graph that the file was
built from. The accuracy of int8 is then measured with an ONNX file that quantizes the same tensors
with the same scales, and speed is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyvit.errors import ArtifactError
from tinyvit.export.checks.baseline_timing import ONE_THREAD
from tinyvit.export.targets import LoweredModel, Target, get_target
from tinyvit.export.targets.onnx.writer import OnnxModel
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import EmbeddedPreprocessing, Parity, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.golden_comparison import (
    compare_golden_vectors,
    find_worst_output,
    summarize_outputs,
)
from tinyvit.runtimes.registry import open_runtime

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph

_SUBSTITUTE_TARGET = "onnx"
"""Name of the target whose files are measured instead of those that do not run on this machine."""


class OnnxSubstitute(Target):
    """An ONNX file in place of a target whose engine does not run on this machine.

    It quantizes the same tensors with the same scales as the target's own file, but to the data
    types for which onnxruntime has fast kernels. For messages, it has the name of the target.
    """

    suffix = ".onnx"

    def __init__(self, target: Target) -> None:
        """Make the substitute of a target, with the target's quantization scheme.

        Args:
            target: The target whose engine does not run on this machine.
        """
        self._onnx = get_target(_SUBSTITUTE_TARGET)
        self.name, self.extra, self.tools = target.name, self._onnx.extra, self._onnx.tools
        self._target, types = target, self._onnx.scheme
        self.scheme = target.scheme
        if not target.scheme.every_tensor:
            self.scheme = replace(
                target.scheme,
                activations=types.activations,
                biases=types.biases,
                weights=types.weights,
            )

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> LoweredModel:
        """Lower the graph as the ONNX target does; see `Target.lower`.

        A network in which every tensor is quantized is lowered to the target's own ONNX graph.
        """
        if self.scheme.every_tensor and precision == "int8":
            import onnx
            import onnx_ir as ir

            data = self._target.make_parity_model(
                graph, preprocess, embedded_preprocessing, precision
            )
            return OnnxModel(ir.serde.deserialize_model(onnx.load_model_from_string(data)))
        return self._onnx.lower(graph, preprocess, embedded_preprocessing, precision)


@contextmanager
def open_for_parity(target: Target, artifact: Artifact, graph: Graph) -> Iterator[Runtime]:
    """Open the runtime that computes an artifact's logits; see `Target.parity_method`.

    Args:
        target: The target of the artifact.
        artifact: A file in a staging folder, with its manifest.
        graph: The traced network that the artifact was lowered from.

    Yields:
        The target's own engine on one thread, the reference evaluator, or onnxruntime with the
        ONNX graph that the artifact was built from, which is written beside the artifact.
    """
    manifest = artifact.manifest
    assert manifest is not None
    if target.parity_method == "engine":
        runtime = open_runtime(artifact, options=ONE_THREAD)
    elif target.parity_method == "reference":
        runtime = target.open_reference(artifact)
    else:
        path = artifact.path.with_name("graph.onnx")
        path.write_bytes(
            target.make_parity_model(
                graph, manifest.preprocess, manifest.embedded_preprocessing, manifest.precision
            )
        )
        runtime = open_runtime(Artifact(path, manifest), "onnxruntime", ONE_THREAD)
    with runtime:
        yield runtime


def measure_parity(runtime: Runtime, manifest: Manifest) -> Parity:
    """Compare an artifact's outputs with its golden outputs.

    Args:
        runtime: The runtime that `open_for_parity` opened.
        manifest: The artifact's manifest, with golden vectors.

    Returns:
        The largest absolute difference of a value, rounded to two digits, and the names of the
        network and the engine that were compared. If there are several outputs, it is that of the
        output whose difference is largest for its tolerance.

    Raises:
        ArtifactError: The difference is above the tolerance of the golden vectors.
    """
    golden = manifest.golden
    assert golden is not None
    reference = _describe_reference(manifest)
    engine = runtime.describe().engine
    results = compare_golden_vectors(runtime, manifest, golden)
    worst = find_worst_output(summarize_outputs(results, manifest, golden))
    if not worst.passed:
        name = "logits" if manifest.output_kind == "logits" else f"values of {worst.name}"
        remedy = (
            "if the checkpoint is right in PyTorch, report this, with the model's variant and the"
            " output of pip list"
        )
        if manifest.precision == "int8":
            remedy = f"calibrate with more images (--calib-count) or other ones; {remedy}"
        raise ArtifactError(
            f"the {manifest.target} artifact does not equal {reference}: in {engine}, {name} differ"
            f" by {worst.max_abs_diff:.3g}, and {worst.tolerance:.3g} is allowed",
            remedy,
        )
    two_digits = float(f"{worst.max_abs_diff:.1e}")
    return Parity(max_abs_diff=two_digits, reference=reference, engine=engine)


def _describe_reference(manifest: Manifest) -> str:
    """Name the network that computed the golden logits."""
    if manifest.quantization is None:
        return "the checkpoint's network in PyTorch"
    return "the quantized network in PyTorch, computed in float64"
