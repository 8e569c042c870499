"""Determines what an opened artifact returns for images."""

from __future__ import annotations

from tinyvit.errors import ArtifactError
from tinyvit.manifest_parts import OutputSpec, TensorSpec
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Runtime
from tinyvit.runtimes.image_input import (
    EXPECTED_IO,
    describe_tensor,
    is_same_shape,
    make_count_error,
)


def resolve_outputs(artifact: Artifact, runtime: Runtime) -> tuple[OutputSpec, ...]:
    """Combine what the manifest and the engine state about the outputs of an artifact.

    A file without a manifest has one output, whose kind is not known: a matrix can be logits or an
    embedding. It is described as logits.

    Args:
        artifact: The artifact.
        runtime: The same artifact, opened with an engine.

    Returns:
        The outputs, in the order in which the runtime returns them.

    Raises:
        ArtifactError: If the outputs are not float32, are neither vectors nor feature maps, or
            contradict the manifest.
    """
    manifest = artifact.manifest
    if manifest is None:
        if len(runtime.outputs) != 1:
            raise make_count_error(artifact, runtime)
        output = runtime.outputs[0]
        _check_output(output, dimensions=2)
        return (OutputSpec(output.name, output.shape, output.dtype, output.layout, "logits"),)
    if len(runtime.outputs) != len(manifest.outputs):
        raise ArtifactError(
            f"{artifact.path.name} has {len(runtime.outputs)} outputs, but its manifest states"
            f" {len(manifest.outputs)}",
            "export the file again",
        )
    for output, spec in zip(runtime.outputs, manifest.outputs):
        _check_output(output, dimensions=4 if spec.kind == "features" else 2)
        if not is_same_shape(output.shape[1:], spec.shape[1:]) and spec.kind != "logits":
            raise ArtifactError(
                f"the output is {describe_tensor(output)}, but the manifest states"
                f" {describe_tensor(spec)}",
                "export the file again",
            )
    return manifest.outputs


def _check_output(output: TensorSpec, dimensions: int) -> None:
    """Raise ArtifactError if an output is not float32 with fixed sizes except for the batch."""
    is_fixed = all(isinstance(size, int) and size >= 1 for size in output.shape[1:])
    if len(output.shape) != dimensions or not is_fixed or output.dtype != "float32":
        raise ArtifactError(f"the output is {describe_tensor(output)}", EXPECTED_IO)
