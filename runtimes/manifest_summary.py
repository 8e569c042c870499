"""Describes a manifest in readable text; tinyvit-inspect prints it."""

from __future__ import annotations

from tinyvit.manifest import Manifest, Quantization, TensorSpec

_EMBEDDED_DESCRIPTIONS = {
    "host": "none of it",
    "normalize": "the normalization",
    "full": "all of it",
}
"""Describes which part of the preprocessing is inside the file, by `embedded_preprocessing`."""


def summarize_manifest(manifest: Manifest) -> dict[str, str]:
    """Describe everything in a manifest except the class labels.

    Args:
        manifest: The manifest. Its texts may come from a hostile file; they are not escaped here.

    Returns:
        Heading -> description, in the order of display; an indented heading belongs to the entry
        before it.
    """
    preprocess, parity, golden = manifest.preprocess, manifest.parity, manifest.golden
    return {
        "model": manifest.model,
        "variant": f"{manifest.variant}, {manifest.img_size} x {manifest.img_size} pixels",
        "target": f"{manifest.target}, {manifest.precision}",
        "input": _describe_tensor(manifest.input),
        "output": _describe_tensor(manifest.output),
        "preprocessing": f"resize {preprocess.resize}, crop {preprocess.size}"
        f" ({preprocess.crop}), {preprocess.interpolation}, mean {preprocess.mean},"
        f" std {preprocess.std}",
        "  in the file": _EMBEDDED_DESCRIPTIONS[manifest.embedded_preprocessing],
        "license": manifest.license,
        "source": f"{manifest.source.name}, sha256 {manifest.source.sha256}",
        "tools": ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items())),
        **(_summarize_quantization(manifest.quantization) if manifest.quantization else {}),
        "parity": f"{parity.max_abs_diff:.2e} from {parity.reference}, on {parity.engine}"
        if parity
        else "not measured",
        "golden": f"{len(golden.patterns)} inputs, tolerance {golden.tolerance:.2e}; run"
        " tinyvit-verify to check them"
        if golden
        else "none",
        "manifest": describe_integrity(manifest.is_intact),
        "labels": f"{len(manifest.labels)} classes",
    }


def describe_integrity(unchanged: bool) -> str:
    """Return "as exported" if a part of a file is unchanged, otherwise a warning."""
    return "as exported" if unchanged else "CHANGED after export"


def _summarize_quantization(quantization: Quantization) -> dict[str, str]:
    share = (
        "an unknown share"
        if quantization.int8_mac_fraction is None
        else f"{quantization.int8_mac_fraction:.0%}"
    )
    agreement = (
        "not measured on images"
        if quantization.agreement is None
        else f"{quantization.agreement:.1f}% of {quantization.evaluation_count} images get the"
        " class that float32 gives"
    )
    accuracy = (
        f", top-1 accuracy {quantization.top1:.1f}% (float32: {quantization.float_top1:.1f}%)"
        if quantization.top1 is not None and quantization.float_top1 is not None
        else ""
    )
    forced = "; the accuracy budget was MISSED, and --force was given"
    return {
        "int8": f"{quantization.weight_bits}-bit weights, for {quantization.required_cpu_feature}"
        f" processor; {share} of the multiply-accumulates in int8;"
        f" {len(quantization.float_units)} units in float32",
        "  calibrated": f"{quantization.calibration_count} images, {quantization.method}",
        "  measured": f"{agreement}{accuracy}, on {quantization.measured_on}"
        + (forced if quantization.forced else ""),
    }


def _describe_tensor(tensor: TensorSpec) -> str:
    shape = ", ".join(map(str, tensor.shape))
    return f"{tensor.name}: {tensor.dtype} ({shape}) {tensor.layout}".rstrip()
