"""Reads the float32 weights that an int8 artifact was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.bench.sensitivity.onnx_models import FloatWeights, read_float_weights
from tinyvit.checkpoint_paths import CHECKPOINT_SUFFIXES
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.runtimes.artifact import Artifact, read_artifact
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import RELEASED_NAMES

if TYPE_CHECKING:
    from tinyvit.nn.checkpoints.checkpoint import Checkpoint

_REMEDY = "give the float32 .onnx file or the checkpoint that the int8 file was made from"


def read_reference(path: Path, int8: Manifest) -> FloatWeights:
    """Read the float32 weights of the folded network from an artifact or a checkpoint.

    Args:
        path: A float32 .onnx file of tinyvit-export, a checkpoint, or the name of a released one.
        int8: The manifest of the int8 artifact.

    Returns:
        The parameters by their names in the folded network.

    Raises:
        RequestError: The file is neither, or was not made from the int8 artifact's checkpoint with
            the same image size and attention windows.
        ArtifactError: The artifact is damaged.
        CheckpointError: The checkpoint cannot be read.
        MissingDependencyError: The reference is a checkpoint, and torch is not installed.
    """
    is_name = str(path) in RELEASED_NAMES and not path.exists()
    if is_name or path.is_dir() or path.name.lower().endswith(CHECKPOINT_SUFFIXES):
        return _read_checkpoint(path, int8)
    artifact = read_artifact(path)
    manifest = artifact.manifest
    if artifact.format is not ONNX or manifest is None or manifest.precision != "float32":
        raise RequestError(
            f"--reference {path} is not a float32 .onnx file of tinyvit-export", _REMEDY
        )
    if (manifest.source.sha256, manifest.img_size, manifest.windows) != (
        int8.source.sha256,
        int8.img_size,
        int8.windows,
    ):
        raise _make_mismatch_error(path)
    return _read_weights(artifact)


def _read_weights(artifact: Artifact) -> FloatWeights:
    """Read the weights of an .onnx artifact, after the checks that every opened file passes."""
    open_runtime(artifact, "onnxruntime").close()
    try:
        return read_float_weights(artifact.path.read_bytes())
    except ValueError as error:
        raise ArtifactError(
            f"{artifact.path} is damaged ({error})", "export the file again"
        ) from error


def _read_checkpoint(path: Path, int8: Manifest) -> FloatWeights:
    """Read and fold the network of a checkpoint, as tinyvit-export does."""
    try:
        from tinyvit.nn.checkpoints.hub import load_file_or_released
        from tinyvit.nn.fold import fold_model
        from tinyvit.nn.model import find_output_request
    except ImportError as error:
        raise MissingDependencyError.for_package("torch", extra="export") from error
    checkpoint: Checkpoint = load_file_or_released(path, requires_classifier=False)
    if checkpoint.sha256 != int8.source.sha256:
        raise _make_mismatch_error(path)
    checkpoint = checkpoint.at_size(int8.img_size, int8.windows)
    folded = fold_model(checkpoint.build(find_output_request(int8.outputs)))
    return {name: tensor.detach().numpy() for name, tensor in folded.state_dict().items()}


def _make_mismatch_error(path: Path) -> RequestError:
    return RequestError(
        f"--reference {path} was not made from the same checkpoint, with the same image size and"
        " attention windows, as the int8 file",
        _REMEDY,
    )
