"""A temporary folder for trial artifacts of one target, which are measured and then deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.source_network import SourceNetwork
from tinyvit.export.targets import LoweredModel, Target, adapt_input_to_target
from tinyvit.export.tracing import Graph, explain_tool_errors
from tinyvit.files.file_io import explain_os_error
from tinyvit.files.staging import temporary_folder
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import Precision
from tinyvit.nn.model import TinyViT
from tinyvit.preprocess import Preprocess
from tinyvit.quant.accuracy_budget import (
    ArtifactOutputs,
    BatchFactory,
    ImageReporter,
    ignore_images,
    run_artifact,
)
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import AUTO_DEVICE, RuntimeOptions
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.registry import engines_for_format, get_engine, open_runtime

_MAX_STREAMS = 4
"""Largest number of batches that are computed at the same time."""
_MAX_STREAMED_PIXELS = 512 * 512
"""Number of pixels above which an image needs so much memory that one is computed at a time."""


@dataclass(frozen=True)
class Workspace:
    """A folder of trial artifacts of one target, at most one per precision.

    The artifacts contain no preprocessing (embedded preprocessing "host"), whatever was requested,
    so that only the network is measured.

    Attributes:
        folder: The folder that contains the artifacts.
        target: The target, or its `parity.OnnxSubstitute` (a target that makes an ONNX file
            instead) if its engine does not run on this machine.
        folded: The folded float32 network.
        graph: The folded float32 network, traced.
        manifest: The float32 artifact's manifest without the fields that depend on the target.
    """

    folder: Path
    target: Target
    folded: TinyViT
    graph: Graph
    manifest: Manifest

    def lower(self, graph: Graph, precision: Precision) -> LoweredModel:
        """Lower a traced network for the target.

        Args:
            graph: The float32 network or a quantized one.
            precision: Precision of the artifact.

        Returns:
            The model, ready to be saved.

        Raises:
            ArtifactError: A tool of the target failed.
        """
        with explain_tool_errors(f"making the {self.target.name} artifact"):
            return self.target.lower(graph, self.manifest.preprocess, "host", precision)

    def save(self, lowered: LoweredModel, precision: Precision) -> Artifact:
        """Write a model, replacing an earlier one of the same precision.

        Args:
            lowered: The model.
            precision: The precision that it was lowered with.

        Returns:
            The artifact.

        Raises:
            RequestError: The folder for temporary files is full, or cannot be written.
            ArtifactError: A tool of the target failed.
        """
        artifact = self.locate_artifact(precision)
        assert artifact.manifest is not None
        try:
            with explain_tool_errors(f"writing {artifact.path.name}"):
                lowered.save(artifact.path, artifact.manifest)
        except OSError as error:
            reason, _ = explain_os_error(error)
            folder = self.folder.parent
            raise RequestError(
                f"a temporary file cannot be written to {folder} ({reason})",
                "free space there, or set TMPDIR to another folder",
            ) from error
        return artifact

    def locate_artifact(self, precision: Precision) -> Artifact:
        """Return the path and the manifest of the artifact that `save` writes for a precision.

        Args:
            precision: Precision of the artifact.

        Returns:
            The artifact; its file exists only after `save`.
        """
        manifest = replace(
            self.manifest,
            target=self.target.name,
            precision=precision,
            input=adapt_input_to_target(self.manifest.input, self.target),
        )
        return Artifact(self.folder / f"{precision}{self.target.suffix}", manifest)

    def run(
        self,
        artifact: Artifact,
        make_batches: BatchFactory,
        report_images: ImageReporter = ignore_images,
    ) -> ArtifactOutputs:
        """Run an artifact on images, on as many threads as PyTorch uses.

        Args:
            artifact: An artifact that `save` has written.
            make_batches: Function that returns a new iterator over the batches of images, with the
                correct classes if they are known.
            report_images: Receives the number of finished images after every batch.

        Returns:
            The logits, and the correct classes if they are known.
        """
        assert artifact.manifest is not None
        options = _choose_options(artifact.format, artifact.manifest.preprocess)
        with open_runtime(artifact, options=options) as runtime:
            return run_artifact(
                runtime, artifact.manifest, make_batches, report_images, options.streams
            )


def _choose_options(format: Format, preprocess: Preprocess) -> RuntimeOptions:
    """Divide PyTorch's threads into streams, which run many images faster than threads do."""
    import torch

    if not get_engine(engines_for_format(format)[0]).supports_streams:
        return RuntimeOptions(AUTO_DEVICE)
    threads = torch.get_num_threads()
    is_large = preprocess.height * preprocess.width > _MAX_STREAMED_PIXELS
    streams = 1 if is_large else min(_MAX_STREAMS, threads)
    return RuntimeOptions(AUTO_DEVICE, threads=threads // streams, streams=streams)


@contextmanager
def open_workspace(source: SourceNetwork, target: Target) -> Iterator[Workspace]:
    """Make a workspace in a temporary folder, which is deleted when the context ends.

    Args:
        source: The network to export.
        target: The target, or its `parity.OnnxSubstitute` (a target that makes an ONNX file
            instead) if its engine does not run on this machine.

    Yields:
        The workspace, which has no artifacts yet.
    """
    manifest = build_manifest(
        source.checkpoint,
        source.labels,
        source.graph.batch,
        embedded_preprocessing="host",
        outputs=source.graph.outputs,
    )
    with temporary_folder() as folder:
        yield Workspace(folder, target, source.folded, source.graph, manifest)
