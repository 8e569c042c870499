"""The summary that tinyvit-export prints: of one artifact, or a table of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinyvit.bench.report.sensitivity_lines import format_units
from tinyvit.export.command_line.speed_text import describe_speed, list_disturbances
from tinyvit.export.targets import get_target
from tinyvit.image_sizes import describe_size
from tinyvit.install_command import format_program
from tinyvit.metrics import FLOAT32_NETWORK
from tinyvit.preprocess import describe_resize
from tinyvit.preprocess_settings import format_setting
from tinyvit.text.plurals import format_count
from tinyvit.text.safe_text import quote_argument

if TYPE_CHECKING:
    from tinyvit.export.artifact_writer import ExportedArtifact
    from tinyvit.export.int8.search_outcome import SearchOutcome
    from tinyvit.manifest import Manifest

SENSITIVITY_ROWS = 20
"""Number of units in the table of --sensitivity. --json prints all units."""

_USES = {
    "logits": ("", "Classifier", "predict"),
    "embedding": (" -o embeddings.npy", "Encoder", "embed"),
    "features": (" -o features.npz", "Encoder", "features"),
}
"""For each kind of output, the options of tinyvit-predict, and the class and method in Python."""

_NOT_MEASURED = "the accuracy was not measured (--val-data, or --calib-data synthetic, measures it)"
"""Line of the summary for an int8 artifact that was not compared with float32."""

_SYNTHETIC_EVALUATION = (
    "; these images are synthetic (made from the network itself), so only --val-data shows how "
    "much accuracy int8 costs"
)
"""End of the line of the summary for an int8 artifact that was measured on synthetic images."""


def format_report(artifacts: Sequence[ExportedArtifact]) -> list[str]:
    """Describe the artifacts of an export in the lines of a text that fits on a screen.

    Args:
        artifacts: The artifacts, all of one network in one precision.

    Returns:
        The summary of one artifact, or a table of several.
    """
    if len(artifacts) == 1:
        return format_summary(artifacts[0])
    if not artifacts:
        return []
    first = artifacts[0]
    total_mb = sum(artifact.size_bytes for artifact in artifacts) / 1e6
    shared_notes = [
        note for note in first.notes if all(note in artifact.notes for artifact in artifacts)
    ]
    return [
        f"wrote {len(artifacts)} artifacts to {first.path.parent} ({total_mb:.1f} MB)",
        *_describe_network(first.manifest),
        *_format_table(artifacts),
        *(f"  int8:   {line}" for line in map(_describe_search, artifacts) if line),
        *(f"  note:   {note}" for note in shared_notes),
        *(
            f"  note:   {artifact.path.name}: {note}"
            for artifact in artifacts
            for note in artifact.notes
            if note not in shared_notes
        ),
        f"  use:    {describe_use(_choose_usable(artifacts))}",
        *(line for artifact in artifacts for line in _describe_sensitivity(artifact)),
    ]


def _format_table(artifacts: Sequence[ExportedArtifact]) -> list[str]:
    """Return a heading and one row for each artifact: file, size, latency, parity and engine.

    A latency that was disturbed is marked, and a line below the table says why.
    """
    width = max(len(artifact.path.name) for artifact in artifacts)
    differ = f"{_name_outputs(artifacts[0].manifest)} differ by"
    rows = [f"  {'file':{width}}     size   latency  {differ}  checked in"]
    notes = []
    for artifact in artifacts:
        parity = artifact.manifest.parity
        assert parity is not None
        latency = f"{artifact.speed.artifact.median_ms:.1f} ms" if artifact.speed else "-"
        reasons = " and ".join(list_disturbances(artifact.speed)) if artifact.speed else ""
        if reasons:
            notes.append(f"  *       {artifact.path.name}: not reliable, because {reasons}")
        rows.append(
            f"  {artifact.path.name:{width}} {artifact.size_bytes / 1e6:5.1f} MB {latency:>9}"
            f"{'*' if reasons else ' '} {parity.max_abs_diff:{len(differ)}.1e}"
            f"  {describe_check(artifact)}"
        )
    return [*rows, *notes]


def _name_outputs(manifest: Manifest) -> str:
    """Return the word for what an artifact returns."""
    return "logits" if manifest.output_kind == "logits" else "outputs"


def _describe_search(artifact: ExportedArtifact) -> str:
    """Return the name of an int8 artifact and its accuracy; "" for other precisions."""
    if artifact.search is None:
        return ""
    return f"{artifact.path.name}: {_describe_int8_accuracy(artifact.search, artifact.manifest)}"


def _choose_usable(artifacts: Sequence[ExportedArtifact]) -> ExportedArtifact:
    """Return the first artifact that runs on this machine, or the first of all."""
    return next((artifact for artifact in artifacts if artifact.speed is not None), artifacts[0])


def describe_check(artifact: ExportedArtifact) -> str:
    """Name the engine that computed the logits for the check.

    Args:
        artifact: The artifact.

    Returns:
        The name of the engine. If it is not the target's own engine, the text says that that one
        has not run the file.
    """
    manifest = artifact.manifest
    assert manifest.parity is not None
    engine = manifest.parity.engine
    if artifact.speed is not None:
        return engine
    return f"{engine}; {get_target(manifest.target).engine_title} has not run this file"


def describe_use(artifact: ExportedArtifact) -> str:
    """Return a command that uses an artifact, and that works on this machine if it runs here.

    Args:
        artifact: The artifact.
    """
    path = quote_argument(artifact.path)
    options, class_name, method = _USES[artifact.manifest.output_kind]
    if artifact.speed is not None:
        return (
            f"{format_program('predict')} {path} IMAGE{options}   (in Python:"
            f" tinyvit.{class_name}({str(artifact.path)!r}).{method}(IMAGE))"
        )
    # Other engines open some of these files too, and would run them on the CPU.
    device = " --device npu" if artifact.manifest.compilation is not None else ""
    return (
        f"{format_program('inspect')} {path} shows its description here; it runs on a machine with"
        f" {get_target(artifact.manifest.target).engine_title}:"
        f" tinyvit-predict {path} IMAGE{options}{device}"
    )


def format_summary(artifact: ExportedArtifact) -> list[str]:
    """Describe an artifact in the lines of a text summary.

    Args:
        artifact: The artifact.

    Returns:
        The lines about its files, size, speed and parity with the network, and how to use it.
    """
    manifest, parity = artifact.manifest, artifact.manifest.parity
    assert parity is not None
    name = _name_outputs(manifest)
    return [
        f"wrote {' and '.join(map(str, artifact.files))} ({artifact.size_bytes / 1e6:.1f} MB)",
        *_describe_network(manifest),
        *(_describe_quantization(artifact.search, manifest) if artifact.search else []),
        f"  speed:  {describe_speed(artifact)}",
        f"  parity: the file's {name} differ by at most {parity.max_abs_diff:.1e} from those of "
        f"{parity.reference}",
        f"  check:  outputs computed in {describe_check(artifact)}",
        *(f"  note:   {note}" for note in artifact.notes),
        f"  use:    {describe_use(artifact)}",
        *_describe_sensitivity(artifact),
    ]


def _describe_outputs(manifest: Manifest) -> str:
    """Describe the outputs: the number of classes, or shapes without the batch."""
    if manifest.output_kind == "logits":
        return format_count(len(manifest.labels), "class", "classes")
    shapes = [" x ".join(map(str, spec.shape[1:])) for spec in manifest.outputs]
    if manifest.output_kind == "embedding":
        return f"an embedding of {shapes[0]} values"
    return ", ".join(f"{spec.name} {shape}" for spec, shape in zip(manifest.outputs, shapes))


def _describe_sensitivity(artifact: ExportedArtifact) -> list[str]:
    """Return the table of the most sensitive units; no lines if it was not requested."""
    if artifact.search is None or artifact.search.sensitivity is None:
        return []
    sensitivity = artifact.search.sensitivity
    return [
        "",
        f"sensitivity of the units of {artifact.path.name} to int8, simulated in PyTorch with the"
        f" scales of its recipe on {sensitivity.image_count} images",
        *format_units(sensitivity, SENSITIVITY_ROWS),
    ]


def _describe_network(manifest: Manifest) -> list[str]:
    """Return the lines about the network, the preprocessing and the labels, with their sources."""
    preprocess, labels = manifest.preprocess, manifest.labels
    mean, std = map(format_setting, (preprocess.mean, preprocess.std))
    size, output = describe_size(manifest.img_size), _describe_outputs(manifest)
    resize = f"{describe_resize(preprocess)}, {preprocess.interpolation}"
    lines = [
        f"  model:  {manifest.model}, {manifest.precision}, {size}, {output}",
        f"  input:  {resize}, mean {mean}, std {std}",
        f"          from: {manifest.preprocess_source}",
    ]
    if labels:
        names = f"{labels[0].name!r} to {labels[-1].name!r}"
        lines.append(f"  labels: {names}, from: {manifest.labels_source}")
    return lines


def _describe_quantization(search: SearchOutcome, manifest: Manifest) -> list[str]:
    """Return the lines about an int8 network; its trials are left out if there is only one."""
    trial_lines = []
    if len(search.trials) > 1:
        trial_lines = [f"  trial:  {trial}" for trial in search.trials]
    kernels = "the engine does not report its kernels here"
    if search.integer_kernel_share is not None:
        kernels = (
            f"{search.integer_kernel_share:.0%} of the multiply-accumulates in integer kernels"
        )
    assert manifest.quantization is not None
    bits = manifest.quantization.weight_bits
    float_units = search.recipe.float_units
    moved = ""
    if float_units:
        singular, plural = "unit (layer or attention module)", "units (layers or attention modules)"
        units = format_count(len(float_units), singular, plural)
        moved = f"; for the accuracy, {units} stayed in float32"
    return [
        *trial_lines,
        f"  int8:   {_describe_int8_accuracy(search, manifest)}",
        f"  layers: {kernels}{moved}; {bits}-bit weights",
    ]


def _describe_int8_accuracy(search: SearchOutcome, manifest: Manifest) -> str:
    """Compare the int8 network with the float32 network; say if the images are synthetic."""
    quantization = manifest.quantization
    accuracy = _NOT_MEASURED
    if search.comparison is not None:
        accuracy = search.comparison.describe(FLOAT32_NETWORK)
    if quantization is not None and quantization.has_synthetic_evaluation:
        accuracy += _SYNTHETIC_EVALUATION
    return accuracy
