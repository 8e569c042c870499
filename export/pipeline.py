"""The export pipeline: loads a checkpoint, traces the network, and makes an artifact per target.

Before an artifact is moved to its final path, its logits are compared with those of the network in
PyTorch (in `artifact_writer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.export.artifact_writer import ExportedArtifact
from tinyvit.export.checks.request_checks import check_label_count, explain_impossible
from tinyvit.export.checks.run_cost import explain_run_cost
from tinyvit.export.config import ExportConfig
from tinyvit.export.export_results import ExportReport, FailedTarget, try_artifact
from tinyvit.export.network_preparation import make_preparer
from tinyvit.export.plan import (
    ExportPlan,
    PlannedArtifact,
    make_plan,
    requests_several,
)
from tinyvit.export.source_network import SourceNetwork, load_source_network
from tinyvit.export.workers.side_by_side import make_artifacts
from tinyvit.nn.checkpoints.weight_files import check_format
from tinyvit.processes.stop_signals import restore_interrupt
from tinyvit.progress import NullProgress, Progress


def export(config: ExportConfig, progress: Progress = NullProgress()) -> ExportedArtifact:
    """Export a checkpoint to one target.

    Args:
        config: The options; `targets` names exactly one target.
        progress: Receives messages and counts; by default they are not shown.

    Returns:
        The artifact, written and checked.

    Raises:
        TinyViTError: The artifact cannot be made. Nothing is left behind then, except a recipe that
            was calibrated and written before.
    """
    if requests_several(config):
        raise RequestError(
            f"export() makes one artifact, and targets={config.targets!r} with these options"
            " requests several",
            "call export_all() for several artifacts",
        )
    plan = _make_plan(config)
    (planned,) = plan.artifacts
    impossible = explain_impossible(planned.target, config, config.precision)
    if impossible is not None:
        raise impossible
    with _report_files_on_interrupt(config, finished=()):
        source = load_source_network(plan, progress)
        cost_error = _explain_run_cost(planned, source)
        if cost_error is not None:
            raise cost_error
        preparer = make_preparer(config, source, [planned.target], progress)
        result = try_artifact(planned, preparer, config.overwrite, progress)
    if isinstance(result, FailedTarget):
        raise result.error
    return result


def export_all(config: ExportConfig, progress: Progress = NullProgress()) -> ExportReport:
    """Export a checkpoint to every requested target, and report those that failed.

    Args:
        config: The options; `targets` names any number of targets.
        progress: Receives messages and counts; by default they are not shown.

    Returns:
        The artifacts, and the targets without one. Before the checkpoint is read, a target is
        skipped if it does not offer what is requested, if its tools are not installed, or if this
        machine cannot make its artifacts.

    Raises:
        TinyViTError: The request itself is impossible, the checkpoint cannot be used, or the output
            cannot be written. Artifacts that were already written remain.
    """
    plan = _make_plan(config)
    supported, failures = _split_by_support(plan, progress)
    if not supported:
        return ExportReport(artifacts=(), failures=tuple(failures))
    artifacts: list[ExportedArtifact] = []
    with _report_files_on_interrupt(config, finished=artifacts):
        source = load_source_network(plan, progress)
        remaining = _leave_out_too_large(supported, source, failures)
        if not remaining:
            return ExportReport(artifacts=(), failures=tuple(failures))
        targets = [planned.target for planned in remaining]
        preparer = make_preparer(config, source, targets, progress)
        results = make_artifacts(plan, remaining, source, preparer, progress)
        del source, preparer  # Worker processes load the network again, and need the memory.
        with closing(results):
            for result in results:
                if isinstance(result, ExportedArtifact):
                    artifacts.append(result)
                else:
                    failures.append(result)
        order = [planned.path for planned in remaining]
        artifacts.sort(key=lambda artifact: order.index(artifact.path))
    return ExportReport(tuple(artifacts), tuple(failures))


def _make_plan(config: ExportConfig) -> ExportPlan:
    """Make the plan, after a check that the checkpoint, if it exists, has a known format.

    Without this check, `--checkpoint demo.onnx`, which gives an artifact instead of a checkpoint,
    would be answered with "demo.onnx exists: use --overwrite", because the output is named after
    the checkpoint.
    """
    if config.checkpoint is not None:
        path = Path(config.checkpoint).expanduser()
        if path.exists():
            check_format(path)
    plan = make_plan(config)
    if plan.labels is not None:
        check_label_count(config, plan.labels)
    return plan


@contextmanager
def _report_files_on_interrupt(
    config: ExportConfig, finished: Sequence[ExportedArtifact]
) -> Iterator[None]:
    """Let a KeyboardInterrupt in the block name the files that the export has written before.

    Args:
        config: The options, with the path of the recipe.
        finished: The artifacts that are finished; the block may append to this list.

    Yields:
        Nothing.
    """
    recipe = config.quantization.recipe if config.quantization is not None else None
    new_recipes = [recipe] if recipe is not None and not recipe.exists() else []
    try:
        with restore_interrupt():
            yield
    except KeyboardInterrupt as interrupt:
        remaining = [f"the recipe {path}" for path in new_recipes if path.exists()]
        remaining += [str(artifact.path) for artifact in finished]
        if remaining:
            interrupt.args = (f"only finished files were left behind: {', '.join(remaining)}",)
        raise


def _split_by_support(
    plan: ExportPlan, progress: Progress
) -> tuple[list[PlannedArtifact], list[FailedTarget]]:
    """Separate the artifacts that can be made from the targets that cannot; report the latter."""
    config = plan.config
    supported: list[PlannedArtifact] = []
    unsupported: list[FailedTarget] = []
    for planned in plan.artifacts:
        name = planned.target.name
        error = explain_impossible(planned.target, config, config.precision)
        if error is None:
            supported.append(planned)
        else:
            progress.message(f"skipping {name}: {error.cause}")
            unsupported.append(FailedTarget(name, error, is_skipped=True))
    return supported, unsupported


def _explain_run_cost(planned: PlannedArtifact, source: SourceNetwork) -> RequestError | None:
    """Explain why this package would not open the artifact; see `run_cost.explain_run_cost`."""
    return explain_run_cost(source.graph) if planned.target.has_run_cost_limit else None


def _leave_out_too_large(
    planned: Sequence[PlannedArtifact], source: SourceNetwork, failures: list[FailedTarget]
) -> list[PlannedArtifact]:
    """Return the artifacts that this package would open; add the others to the failures."""
    remaining: list[PlannedArtifact] = []
    for artifact in planned:
        error = _explain_run_cost(artifact, source)
        if error is None:
            remaining.append(artifact)
        else:
            failures.append(FailedTarget(artifact.target.name, error, is_skipped=False))
    return remaining
