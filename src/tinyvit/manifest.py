"""The manifest: a JSON text inside every artifact that describes the artifact.

It states the model, the input, the preprocessing, the labels and how the artifact was made and
checked. It can be read without the engine that runs the artifact.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from json import dumps
from typing import Any, Literal

from tinyvit.errors import ArtifactError
from tinyvit.labels import MAX_CLASSES, Label
from tinyvit.preprocess import PREPROCESS_FIELDS, Preprocess
from tinyvit.serialization import parse_dataclass, parse_json, require_fields

FORMAT = 2
"""Version of the JSON layout. A manifest of another version is refused."""

MANIFEST_KEY = "tinyvit"
"""Name under which artifact containers store the manifest, for example as ONNX metadata."""

MAX_BYTES = 64 * 2**20
"""Largest manifest that is read, in bytes."""

PreprocessStage = Literal["host", "normalize", "full"]
"""How much of the preprocessing is inside the artifact, which decides what its input is.

- "host": nothing. The input is float32 NCHW, resized, cropped and normalized.
- "normalize": the normalization. The input is uint8 NHWC, resized and cropped.
- "full": everything. The input is one uint8 image of any size.
"""

Precision = Literal["float32", "float16", "int8", "int8-weights"]
"""Numeric precision of the network in an artifact.

- "float32": weights and arithmetic are float32.
- "float16": weights have 16 bits. Matrix products use the processor's 16-bit type (bfloat16 or
  float16), or float32 where it has none.
- "int8": weights and activations are int8.
- "int8-weights": weights are int8 to save space, and the arithmetic is float32.
"""


@dataclass(frozen=True)
class TensorSpec:
    """Description of one input or output tensor.

    Attributes:
        name: Name of the tensor in the artifact.
        shape: Sizes; a name such as "batch" stands for a dimension of any size.
        dtype: Element type, "float32" or "uint8".
        layout: Order of the dimensions: "NCHW", "NHWC" or "NC".
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class SourceCheckpoint:
    """The checkpoint that the artifact was made from.

    Attributes:
        name: Name of the released model, or stem of the file name.
        sha256: Hex digest of the checkpoint file.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Parity:
    """Result of comparing the artifact with the network that it was made from.

    Attributes:
        max_abs_diff: Largest absolute difference of the logits on the golden inputs.
        against: What the artifact was compared with.
        engine: Engine that ran the artifact.
    """

    max_abs_diff: float
    against: str
    engine: str


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and expected logits with which a device can check the artifact.

    Attributes:
        formula: Name of the formula that generates the inputs (see `tinyvit.golden`).
        patterns: Pattern numbers of the formula, one for each input.
        height: Height of the inputs in pixels.
        width: Width of the inputs in pixels.
        logits: Expected logits, (patterns, classes).
        tolerance: Largest allowed absolute difference from `logits`.
    """

    formula: str
    patterns: tuple[int, ...]
    height: int
    width: int
    logits: tuple[tuple[float, ...], ...]
    tolerance: float


@dataclass(frozen=True)
class Quantization:
    """The quantization of an int8 artifact, and its accuracy on the machine that made it.

    Attributes:
        method: Name of the calibration observer.
        data: Hash of the calibration images.
        data_count: Number of calibration images.
        recipe: sha256 of the recipe.
        weight_bits: 8, or 7 so that no sum of products can saturate on any processor.
        cpu: "any", or the processor feature (such as "vnni") without which sums can saturate.
        float_units: Units of the network that stay float32.
        int8_macs: Share of the multiply-accumulates that run in integer kernels, 0 to 1, as the
            engine reports it; None if unknown.
        images: Number of images on which accuracy was measured.
        agreement: Percent of `images` with the same top-1 class as float32.
        top1: Top-1 accuracy in percent, None without labeled images.
        float_top1: Top-1 accuracy of float32 in percent, None without labeled images.
        trials: Descriptions of the configurations that were tried to meet the accuracy budget.
        measured_on: Processor features of the machine that measured the accuracy.
        forced: Whether the accuracy budget was missed and the export was forced.
    """

    method: str
    data: str
    data_count: int
    recipe: str
    weight_bits: int
    cpu: str
    float_units: tuple[str, ...]
    int8_macs: float | None = None
    images: int = 0
    agreement: float | None = None
    top1: float | None = None
    float_top1: float | None = None
    trials: tuple[str, ...] = ()
    measured_on: str = ""
    forced: bool = False


@dataclass(frozen=True)
class Manifest:
    """Everything that an artifact carries besides the network.

    Attributes:
        model: Name of the model that was exported.
        variant: Name of its architecture (see `tinyvit.variants`).
        img_size: Side of the network's square input in pixels.
        target: Name of the export target that made the artifact.
        precision: Numeric precision of the network.
        stage: How much of the preprocessing is inside the artifact.
        input: The artifact's input tensor.
        output: The artifact's output tensor, the logits.
        preprocess: The whole preprocessing, whatever part of it is inside the artifact.
        labels: Class labels in the order of the logits.
        source: The checkpoint that the artifact was made from.
        license: License of the weights.
        tools: Versions of the packages that made the artifact, by name.
        golden: Inputs and expected logits, if any.
        parity: Result of the check at export, if any.
        quantization: How the network was quantized; None for a float network.
        content_sha256: Hex digest of the artifact without its manifest.
        format: Version of the JSON layout.
        sha256: Hex digest of the manifest as it was read, "" if it was not read from JSON.
    """

    model: str
    variant: str
    img_size: int
    target: str
    precision: Precision
    stage: PreprocessStage
    input: TensorSpec
    output: TensorSpec
    preprocess: Preprocess
    labels: tuple[Label, ...]
    source: SourceCheckpoint
    license: str
    tools: dict[str, str]
    golden: GoldenVectors | None = None
    parity: Parity | None = None
    quantization: Quantization | None = None
    content_sha256: str = ""
    format: int = FORMAT
    sha256: str = field(default="", compare=False)

    def to_json(self) -> str:
        """Write the manifest as JSON, with the digest that it has now.

        Returns:
            One line of ASCII. Equal manifests give equal text.
        """
        return self._to_json(self._digest())

    @property
    def intact(self) -> bool:
        """Whether the manifest still has the digest that it was written with.

        This is a checksum against accidents and careless edits. It is not a signature: whoever
        changes a manifest on purpose can change the digest too.
        """
        return self.sha256 == self._digest()

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest from JSON, whether or not it is intact.

        Args:
            text: A JSON text that `to_json` wrote. It may come from an untrusted file.

        Returns:
            The manifest; every field has its declared type.

        Raises:
            ArtifactError: The text is not a manifest, is larger than MAX_BYTES, or has another
                format.
        """
        if len(text) > MAX_BYTES:
            raise ArtifactError(
                f"the manifest of the file is larger than {MAX_BYTES >> 20} MiB",
                "the file is damaged or hostile: export it again",
            )
        try:
            data = parse_json(text, MAX_BYTES)
            _check_format(data)
            # Defaults would stand for what the artifact was made with.
            require_fields(data, ("golden", "parity"), "Manifest")
            require_fields(data.get("preprocess"), PREPROCESS_FIELDS, "preprocess")
            return parse_dataclass(cls, {**data, "labels": _label_records(data.get("labels"))})
        except ValueError as error:
            raise ArtifactError(
                f"the manifest of the file is damaged ({error})", "export the file again"
            ) from error

    def _digest(self) -> str:
        """Return the hex digest of the JSON whose own digest is empty."""
        return hashlib.sha256(self._to_json(digest="").encode("ascii")).hexdigest()

    def _to_json(self, digest: str) -> str:
        data = {**asdict(self), "sha256": digest}
        data["labels"] = {
            "names": [label.name for label in self.labels],
            "wnids": [label.wnid for label in self.labels],
        }
        return dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True)
class _LabelColumns:
    """Labels as JSON stores them: two lists are shorter than one object for each label."""

    names: tuple[str, ...]
    wnids: tuple[str, ...]


def _check_format(data: Any) -> None:
    """Refuse a manifest whose layout this version cannot read."""
    if not isinstance(data, dict) or type(data.get("format")) is not int:
        raise ValueError("it states no format")
    if data["format"] != FORMAT:
        remedy = "upgrade tinyvit-edge" if data["format"] > FORMAT else "export the file again"
        raise ArtifactError(
            f"the manifest has format {data['format']}, and this version reads only {FORMAT}",
            remedy,
        )


def _label_records(columns: object) -> list[dict[str, str]]:
    """Convert the columns of labels in the JSON into one plain record for each label."""
    labels = parse_dataclass(_LabelColumns, columns, "labels")
    if len(labels.names) != len(labels.wnids):
        raise ValueError("labels.names and labels.wnids have different lengths")
    if len(labels.names) > MAX_CLASSES:
        raise ValueError(f"it has more than {MAX_CLASSES} labels")
    return [{"name": name, "wnid": wnid} for name, wnid in zip(labels.names, labels.wnids)]
