"""The result of an export: the artifacts that were written, and the targets without one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from tinyvit.errors import MissingDependencyError, TinyViTError
from tinyvit.export.artifact_writer import ExportedArtifact, write_artifact
from tinyvit.export.checks.baseline_timing import QuietPeriod
from tinyvit.export.network_preparation import NetworkPreparer
from tinyvit.export.plan import PlannedArtifact, make_write_error
from tinyvit.processes.stop_signals import restore_interrupt
from tinyvit.progress import Progress


@dataclass(frozen=True)
class FailedTarget:
    """A requested target without an artifact.

    Attributes:
        target: Name of the target.
        error: Why there is no artifact.
        is_skipped: True if the target does not offer what was requested, if its tools are not
            installed, or if this machine cannot make its artifacts; False if making the artifact
            failed.
    """

    target: str
    error: TinyViTError
    is_skipped: bool


@dataclass(frozen=True)
class ExportReport:
    """The outcome of an export to several targets.

    Attributes:
        artifacts: The artifacts that were written.
        failures: The targets without an artifact.
    """

    artifacts: tuple[ExportedArtifact, ...]
    failures: tuple[FailedTarget, ...]


def try_artifact(
    planned: PlannedArtifact,
    preparer: NetworkPreparer,
    overwrite: bool,
    progress: Progress,
    quiet: QuietPeriod = nullcontext,
) -> ExportedArtifact | FailedTarget:
    """Prepare the network for one target, and write and check its artifact.

    Args:
        planned: The target, and the file to write.
        preparer: Prepares the network.
        overwrite: Whether existing files are replaced.
        progress: Receives messages and counts.
        quiet: Makes the context in which latency is measured.

    Returns:
        The artifact, or why there is none.

    Raises:
        RequestError: A file cannot be written, so that further targets would fail too.
    """
    try:
        with restore_interrupt():
            progress.message(f"making and checking {planned.target.name}")
            network = preparer.prepare(planned.target)
            return write_artifact(planned.target, network, planned.path, overwrite, progress, quiet)
    except TinyViTError as error:
        is_skipped = isinstance(error, MissingDependencyError)
        return FailedTarget(planned.target.name, error, is_skipped)
    except OSError as error:
        raise make_write_error(planned.path, error) from error
