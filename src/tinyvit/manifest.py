"""The manifest: JSON that `tinyvit-export` embeds in every artifact (exported file).

It contains the model's name, the input and output tensors, the preprocessing, the labels, and how
the artifact was made and checked. Reading it does not need the engine that runs the artifact.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from json import dumps
from typing import Any, Literal

from tinyvit.errors import ArtifactError
from tinyvit.image_sizes import ImageSize, Windows
from tinyvit.labels import Label
from tinyvit.manifest_limits import check_counts, parse_label_columns
from tinyvit.outputs import OutputKind
from tinyvit.preprocess import PREPROCESS_FIELDS, Preprocess
from tinyvit.serialization import parse_dataclass, parse_json, require_fields

FORMAT = 4
"""Version of the JSON format. Manifests of any other version are refused."""

MANIFEST_KEY = "tinyvit"
"""Key under which file formats with metadata store the manifest, for example in ONNX metadata."""

REQUIRED_FIELDS = ("golden", "parity", "windows", "preprocess_source", "labels_source")
"""Fields that the JSON must contain, although the dataclass has defaults for them."""

_OPTIONAL_FLAGS = ("has_synthetic_calibration", "has_synthetic_evaluation")
"""Fields of `Quantization` that the JSON contains only if they are true, so that the digests of
files that were exported before these fields existed still match."""

_OPTIONAL_TEXTS = ("source_sha256", "quantizer")
"""Fields of `Compilation` that the JSON contains only if they are not empty, for the same reason.
"""

MAX_BYTES = 64 * 2**20
"""Largest manifest that is read, in bytes."""

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
            is the result of `tinyvit.nn.weight_folders.hash_weight_files`.
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
            "the unfolded PyTorch model".
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


@dataclass(frozen=True)
class Manifest:
    """Everything that an artifact carries besides the network.

    Attributes:
        model: Name of the model that was exported.
        variant: Name of the model's architecture (see `tinyvit.variants`).
        img_size: Size of the network's input in pixels: the side of a square, or (height, width).
        target: Name of the export target that made the artifact.
        precision: Numeric precision of the network.
        embedded_preprocessing: Which steps of the preprocessing are inside the artifact.
        input: The artifact's input tensor.
        outputs: The artifact's output tensors, at least one, in the order in which it returns them.
        preprocess: All steps of the preprocessing, including those that the caller performs.
        preprocess_source: Where the exporter found the preprocessing, in words.
        labels: Class labels in the order of the logits; empty if the output is not logits.
        labels_source: Where the exporter found the labels, or why it assumed them; "" if there are
            none.
        source: The checkpoint that the artifact was made from.
        license: License of the weights.
        tools: Versions of the packages that made the artifact, by name.
        golden: Test inputs and expected outputs, or None.
        parity: Result of the comparison at export, or None if nothing was compared.
        quantization: How the network was quantized; None for a float network.
        windows: Whether the attention windows are those of the checkpoint, or were scaled to the
            image size.
        compilation: How the artifact was compiled for an NPU; None for other artifacts.
        content_sha256: Hex digest of the artifact's content without the manifest.
        format: Version of the JSON format.
        manifest_sha256: Hex digest of the manifest as the JSON states it; "" if this object was not
            read from JSON.
    """

    model: str
    variant: str
    img_size: ImageSize
    target: str
    precision: Precision
    embedded_preprocessing: EmbeddedPreprocessing
    input: TensorSpec
    outputs: tuple[OutputSpec, ...]
    preprocess: Preprocess
    labels: tuple[Label, ...]
    source: SourceCheckpoint
    license: str
    tools: dict[str, str]
    golden: GoldenVectors | None = None
    parity: Parity | None = None
    quantization: Quantization | None = None
    windows: Windows = "checkpoint"
    preprocess_source: str = ""
    labels_source: str = ""
    compilation: Compilation | None = None
    content_sha256: str = ""
    format: int = FORMAT
    manifest_sha256: str = field(default="", compare=False)

    @property
    def output_kind(self) -> OutputKind:
        """Kind of the outputs, which is the same for all of them."""
        return self.outputs[0].kind

    def to_json(self) -> str:
        """Write the manifest as JSON, with a newly computed digest.

        Returns:
            One line of ASCII. Equal manifests give equal text.
        """
        return self._to_json(self._compute_digest())

    @property
    def is_intact(self) -> bool:
        """Whether the manifest is unchanged: the digest in its JSON matches its other fields.

        The digest is a checksum against accidents and careless edits. It is not a signature:
        whoever changes a manifest on purpose can change the digest too.
        """
        return self.manifest_sha256 == self._compute_digest()

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest from JSON, whether or not it is intact.

        Args:
            text: JSON that `to_json` wrote. It may come from an untrusted file.

        Returns:
            The manifest; every field has its declared type.

        Raises:
            ArtifactError: The text is not a manifest, is larger than MAX_BYTES, or has another
                format version.
        """
        if len(text) > MAX_BYTES:
            raise ArtifactError(
                f"the manifest of the file is larger than {MAX_BYTES >> 20} MiB",
                "the file is damaged or hostile: export it again",
            )
        try:
            data = parse_json(text, MAX_BYTES)
            _check_format(data)
            # The exporter always writes these fields, although the dataclass has defaults for them.
            # If they are missing, the defaults could give a wrong result without any error.
            require_fields(data, REQUIRED_FIELDS, "Manifest")
            require_fields(data.get("preprocess"), PREPROCESS_FIELDS, "preprocess")
            check_counts(data)
            labels = parse_label_columns(data.get("labels"))
            manifest = parse_dataclass(cls, {**data, "labels": labels})
            _check_outputs(manifest)
            return manifest
        except ValueError as error:
            raise ArtifactError(
                f"the manifest of the file is damaged ({error})", "export the file again"
            ) from error

    def _compute_digest(self) -> str:
        """Return the SHA-256 of the JSON in which `manifest_sha256` is an empty string."""
        return hashlib.sha256(self._to_json(digest="").encode("ascii")).hexdigest()

    def _to_json(self, digest: str) -> str:
        """Return the JSON in which `manifest_sha256` is `digest`."""
        # asdict would take half a minute to copy a million labels.
        data = {**asdict(replace(self, labels=())), "manifest_sha256": digest}
        for name in _OPTIONAL_FLAGS:
            if data["quantization"] is not None and not data["quantization"][name]:
                del data["quantization"][name]
        if data["compilation"] is None:
            # So that the digests of other files do not depend on this field.
            del data["compilation"]
        else:
            for name in _OPTIONAL_TEXTS:
                if not data["compilation"][name]:
                    del data["compilation"][name]
        data["labels"] = {
            "names": [label.name for label in self.labels],
            "wnids": [label.wnid for label in self.labels],
        }
        return dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _check_format(data: Any) -> None:
    """Refuse a manifest whose format version this code cannot read."""
    if not isinstance(data, dict) or type(data.get("format")) is not int:
        raise ValueError("the field 'format' is missing or not a whole number")
    if data["format"] != FORMAT:
        remedy = "upgrade tinyvit-edge" if data["format"] > FORMAT else "export the file again"
        raise ArtifactError(
            f"the manifest has format version {data['format']}, and this version of tinyvit-edge"
            f" reads only version {FORMAT}",
            remedy,
        )


def _check_outputs(manifest: Manifest) -> None:
    """Refuse a manifest without outputs, or with outputs of different kinds."""
    if len({spec.kind for spec in manifest.outputs}) != 1:
        raise ValueError("outputs has no entry, or entries of different kinds")
    if (manifest.output_kind == "logits") != bool(manifest.labels):
        raise ValueError("it has labels without logits, or logits without labels")
    if manifest.output_kind != "features" and len(manifest.outputs) > 1:
        raise ValueError(f"outputs has several entries of the kind {manifest.output_kind}")
