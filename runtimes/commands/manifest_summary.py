"""Describes a manifest in readable text, which tinyvit-inspect prints."""

from __future__ import annotations

from tinyvit.image_sizes import describe_size, format_size
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import (
    Compilation,
    GoldenVectors,
    OutputSpec,
    Parity,
    Quantization,
    TensorSpec,
)

_EMBEDDED_DESCRIPTIONS = {
    "host": "none of it",
    "normalize": "the normalization",
    "full": "all of it",
}
"""Maps `embedded_preprocessing` to a description of the part that is inside the file."""

_WINDOWS_DESCRIPTIONS = {
    "checkpoint": "as in the checkpoint; feature maps are padded where the windows do not fit",
    "scaled": "scaled to the image size, with interpolated attention biases",
}
"""Maps `windows` to a description of the sizes of the attention windows."""


def summarize_manifest(manifest: Manifest, is_unchanged: bool) -> dict[str, str]:
    """Describe everything in a manifest except the class labels.

    Args:
        manifest: The manifest. Its texts may come from a hostile file; they are not escaped here.
        is_unchanged: Whether the manifest in the file is, byte by byte, what was exported.

    Returns:
        Heading -> description, in the order of display. An indented heading belongs to the last
        heading above it that is not indented.
    """
    preprocess = manifest.preprocess
    name = "logits" if manifest.output_kind == "logits" else "outputs"
    tools = [f"{name} {version}" for name, version in sorted(manifest.tools.items())]
    return {
        "model": manifest.model,
        "variant": f"{manifest.variant}, {describe_size(manifest.img_size)} pixels",
        "windows": _WINDOWS_DESCRIPTIONS[manifest.windows],
        "target": f"{manifest.target}, {manifest.precision}",
        "input": _describe_tensor(manifest.input),
        "output": "; ".join(map(_describe_output, manifest.outputs)),
        "preprocessing": f"resize {format_size(preprocess.resize)},"
        f" crop {format_size(preprocess.size)}"
        f" ({preprocess.crop}), {preprocess.interpolation}, mean {preprocess.mean},"
        f" std {preprocess.std}",
        "  in the file": _EMBEDDED_DESCRIPTIONS[manifest.embedded_preprocessing],
        "license": manifest.license,
        "source": f"{manifest.source.name}, sha256 {manifest.source.sha256}",
        "tools": ", ".join(tools),
        **_summarize_compilation(manifest.compilation),
        **_summarize_quantization(manifest.quantization),
        "parity": _describe_parity(manifest.parity, name),
        "golden vectors": _describe_golden_vectors(manifest.golden, name),
        "manifest": describe_integrity(is_unchanged),
        **({"labels": f"{len(manifest.labels)} classes"} if manifest.labels else {}),
    }


def describe_integrity(unchanged: bool) -> str:
    """Return "as exported" if a part of a file is unchanged, otherwise a warning."""
    return "as exported" if unchanged else "CHANGED after export"


def _summarize_compilation(compilation: Compilation | None) -> dict[str, str]:
    """Describe the compilation for an NPU; {} if there was none."""
    if compilation is None:
        return {}
    chip = compilation.chip or f"on the device; checked for {compilation.checked_chip}"
    remainder = "none, apart from those that convert the input and the output"
    if compilation.cpu_operators:
        remainder = (
            f"{compilation.cpu_operators}, {compilation.cpu_mac_fraction:.1%} of the"
            " multiply-accumulates"
        )
    quantizer = {"  quantized": compilation.quantizer} if compilation.quantizer else {}
    return {
        "compiled for": f"{chip}, {compilation.compiler}",
        "  on the CPU": remainder,
        **quantizer,
    }


def _summarize_quantization(quantization: Quantization | None) -> dict[str, str]:
    """Describe the quantization; {} if the network is not quantized."""
    if quantization is None:
        return {}
    processors = "any"
    if quantization.required_cpu_feature != "any":
        processors += f", but an x86 processor needs {quantization.required_cpu_feature.upper()}"
    int8_share = "unknown"
    if quantization.int8_mac_fraction is not None:
        int8_share = f"{quantization.int8_mac_fraction:.0%} of the multiply-accumulates"
    return {
        "int8": f"{quantization.weight_bits}-bit weights",
        "  processors": processors,
        "  int8 share": int8_share,
        "  in float32": f"{len(quantization.float_units)} layers and attention modules",
        "  calibration": _describe_calibration(quantization),
        "  accuracy": _describe_accuracy(quantization),
    }


def _describe_calibration(quantization: Quantization) -> str:
    """Describe the calibration images and the method."""
    count, method = quantization.calibration_count, quantization.method
    if quantization.has_synthetic_calibration:
        return f"{count} synthetic images, made from the network itself, {method}"
    return f"{count} images, {method}"


def _describe_accuracy(quantization: Quantization) -> str:
    """Describe the accuracy of the int8 network, which export measured."""
    facts = ["not measured on images"]
    if quantization.evaluation_count:
        facts = [_describe_similarity(quantization)]
    if quantization.top1 is not None and quantization.float_top1 is not None:
        facts.append(
            f"top-1 accuracy {quantization.top1:.1f}% (float32: {quantization.float_top1:.1f}%)"
        )
    facts.append(f"processor: {quantization.measured_on}")
    if quantization.forced:
        facts.append("the accuracy budget was MISSED, and the file was written because of --force")
    return "; ".join(facts)


def _describe_similarity(quantization: Quantization) -> str:
    """Describe how similar the outputs of int8 and float32 are."""
    images = "synthetic images" if quantization.has_synthetic_evaluation else "images"
    counted = f"{quantization.evaluation_count} {images}"
    if quantization.cosine is None:
        agreement = quantization.agreement or 0.0
        return f"{agreement:.1f}% of {counted} have the same top-1 class as in float32"
    text = f"cosine similarity {quantization.cosine:.4f} to float32 on {counted}"
    if quantization.neighbor_agreement is not None:
        text += f", {quantization.neighbor_agreement:.1f}% of the nearest neighbors are the same"
    return text


def _describe_parity(parity: Parity | None, name: str) -> str:
    """Describe the comparison at export; `name` is what was compared, such as "logits"."""
    if parity is None:
        return "not measured"
    return (
        f"the {name} of {parity.engine} differ by at most {parity.max_abs_diff:.2e} from those of"
        f" {parity.reference}"
    )


def _describe_golden_vectors(golden: GoldenVectors | None, name: str) -> str:
    """Describe the golden inputs and their reference outputs, which `name` names."""
    if golden is None:
        return "none"
    return (
        f"{len(golden.patterns)} golden inputs with reference {name}, tolerance"
        f" {max(golden.tolerances, default=0.0):.2e}; run tinyvit-verify to check them"
    )


def _describe_output(output: OutputSpec) -> str:
    """Return the description of an output, with the stride of a feature map."""
    text = _describe_tensor(output)
    if output.stride is not None:
        text += f", one position for {output.stride} x {output.stride} pixels"
    return text


def _describe_tensor(tensor: TensorSpec) -> str:
    """Return name, dtype, shape and layout as text."""
    shape = ", ".join(map(str, tensor.shape))
    return f"{tensor.name}: {tensor.dtype} ({shape}) {tensor.layout}".rstrip()
