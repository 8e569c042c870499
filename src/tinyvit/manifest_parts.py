"""The parts of a manifest: tensors, test inputs, and how the artifact was made and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinyvit.outputs import OutputKind

EmbeddedPreprocessing = Literal["host", "normalize", "full"]
"""Which steps of the preprocessing are inside the artifact. The caller performs the others.

- "host": none; the caller (on the host processor) performs all. The input is float32 NCHW or NHWC,
  depending on the target: resized, cropped and normalized images.
- "normalize": normalization. The input is uint8 NHWC: resized and cropped images.
- "full": resizing, cropping and normalization. The input is one uint8 image of any size.
"""

Precision = Literal["float32", "float16", "int8", "int8-weights"]
"""Numeric precision of the network in an artifact.

- "float32": weights and arithmetic are float32.
- "float16": weights have 16 bits. Matrix products use the 16-bit type of the processor (bfloat16
  or float16), or float32 if the processor has no such type.
- "int8": weights and activations are int8.
- "int8-weights": weights are stored as int8 to save space; arithmetic is float32.
"""


@dataclass(frozen=True)
class TensorSpec:
    """Description of one input or output tensor.

    Attributes:
        name: Name of the tensor in the artifact.
        shape: Size of each dimension; a name such as "batch" marks a dimension of any size.
        dtype: Element type, "float32" or "uint8".
        layout: Order of the dimensions: "NCHW", "NHWC" or "NC"; "" if it is not known.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class OutputSpec(TensorSpec):
    """Description of one output of the network.

    The batch is the first dimension. The others are fixed, except in files of other tools.

    Attributes:
        kind: What the values mean. All outputs of an artifact have the same kind.
        stride: For a feature map, the number of input pixels for each of its rows and columns;
            None for other kinds.
    """

    kind: OutputKind = "logits"
    stride: int | None = None


@dataclass(frozen=True)
class SourceCheckpoint:
    """The checkpoint that the artifact was made from.

    Attributes:
        name: Name of the released model, or file name without suffix.
        sha256: Hex digest of the checkpoint file. For weights that are split into several files, it
            is the result of `tinyvit.nn.checkpoints.weight_folders.hash_weight_files`.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Parity:
    """Result of comparing the artifact with the network that it was made from.

    Attributes:
        max_abs_diff: Largest absolute difference of the outputs on the golden inputs. If there are
            several outputs, that of the output whose difference is largest for its tolerance.
        reference: Description of the network that computed the expected outputs, such as
            "the checkpoint's network in PyTorch".
        engine: Engine that ran the artifact.
    """

    max_abs_diff: float
    reference: str
    engine: str


@dataclass(frozen=True)
class GoldenVectors:
    """Test inputs and expected outputs with which a device can check the artifact.

    The inputs are not stored: a formula of `tinyvit.golden` generates them.

    Attributes:
        formula: Name of the formula, such as "triangle-chirp-1".
        patterns: Pattern number of each input: the argument s of the formula.
        height: Height of the inputs in pixels.
        width: Width of the inputs in pixels.
        outputs: Expected values for each input: those of the first output, then those of the next.
            `tinyvit.golden_outputs` states which values of a feature map are among them.
        tolerances: Largest allowed absolute difference from these values, for each output.
    """

    formula: str
    patterns: tuple[int, ...]
    height: int
    width: int
    outputs: tuple[tuple[float, ...], ...]
    tolerances: tuple[float, ...]


@dataclass(frozen=True)
class Quantization:
    """The quantization of an int8 artifact, and its accuracy on the machine that made it.

    Attributes:
        method: How the scales of the activations were calibrated, such as
            "torchao HistogramObserver", or "weights only".
        calibration_sha256: Hash of the calibration images.
        calibration_count: Number of calibration images.
        recipe_sha256: Hash of the recipe (`tinyvit.quant.recipe`), which holds all scales.
        weight_bits: Number of bits of a weight. With 7 bits, no sum of products saturates (is
            clipped) on any processor; with 8 bits, see `required_cpu_feature`.
        required_cpu_feature: Feature that an x86 processor needs so that sums do not saturate, such
            as "vnni"; "any" if every processor is suitable.
        float_units: Names of the layers and attention modules that stay float32.
        int8_mac_fraction: Fraction of the multiply-accumulates that run in integer kernels, 0 to 1,
            as the engine reports it; None if unknown.
        evaluation_count: Number of images on which the accuracy was measured.
        agreement: Percent of these images that get the same top-1 class from the int8 and the
            float32 network; None if the output is not logits.
        top1: Top-1 accuracy of the int8 network in percent; None without labeled images.
        float_top1: Top-1 accuracy of the float32 network in percent; None without labeled images.
        cosine: Mean cosine similarity of the outputs of the int8 and the float32 network, -1 to 1,
            for the output with the lowest one; None for logits.
        neighbor_agreement: Percent of the images whose nearest neighbor among the others is the
            same for int8 and float32 embeddings; None if the output is not an embedding.
        trials: Descriptions of the configurations that were tried to meet the accuracy budget.
        int8_summary: For TensorRT, a sentence about the layers that run in integers; "" for other
            targets.
        measured_on: Processor features of the machine that measured the accuracy.
        forced: Whether the artifact was written although it missed the accuracy budget.
        has_synthetic_calibration: Whether the calibration images were made from the network itself.
        has_synthetic_evaluation: Whether the images on which the accuracy was measured were made
            from the network itself.
    """

    method: str
    calibration_sha256: str
    calibration_count: int
    recipe_sha256: str
    weight_bits: int
    required_cpu_feature: str
    float_units: tuple[str, ...]
    int8_mac_fraction: float | None = None
    evaluation_count: int = 0
    agreement: float | None = None
    top1: float | None = None
    float_top1: float | None = None
    cosine: float | None = None
    neighbor_agreement: float | None = None
    trials: tuple[str, ...] = ()
    int8_summary: str = ""
    measured_on: str = ""
    forced: bool = False
    has_synthetic_calibration: bool = False
    has_synthetic_evaluation: bool = False


@dataclass(frozen=True)
class Compilation:
    """How the artifact was compiled for an NPU.

    Attributes:
        chip: Name of the chip that the artifact is compiled for; "" for an artifact that is
            compiled on the device, and was only compiled for a check.
        checked_chip: Name of the chip for which the compiler reported what stays on the CPU.
        compiler: Name and version of the compiler, such as "QAIRT 2.51.0".
        cpu_operators: Numbers and names of the operators that stay on the CPU, such as "2 Gemm, 1
            Softmax", without those that convert the input and the output; "" if there are none.
        cpu_mac_fraction: Fraction of the multiply-accumulates that stay on the CPU, 0 to 1.
        source_sha256: SHA-256 of the network that was compiled, which is in a separate file, so
            that a simulator can compile it again; "" if there is no such file.
        quantizer: How the compiler quantized the network, in words; "" if the network was quantized
            before it was compiled, or is not quantized.
    """

    chip: str
    checked_chip: str
    compiler: str
    cpu_operators: str
    cpu_mac_fraction: float
    source_sha256: str = ""
    quantizer: str = ""
