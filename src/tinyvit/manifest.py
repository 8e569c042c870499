"""The manifest: JSON that `tinyvit-export` embeds in every artifact (exported file).

It contains the model's name, the input and output tensors, the preprocessing, the labels, and how
the artifact was made and checked. Reading it does not need the engine that runs the artifact.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from json import dumps
from typing import Any

from tinyvit.errors import ArtifactError
from tinyvit.image_sizes import ImageSize, Windows
from tinyvit.labels import Label
from tinyvit.manifest_limits import check_counts, parse_label_columns
from tinyvit.manifest_parts import (
    Compilation,
    EmbeddedPreprocessing,
    GoldenVectors,
    OutputSpec,
    Parity,
    Precision,
    Quantization,
    SourceCheckpoint,
    TensorSpec,
)
from tinyvit.outputs import OutputKind
from tinyvit.preprocess import PREPROCESS_FIELDS, Preprocess
from tinyvit.serialization import parse_dataclass, parse_json, require_fields

FORMAT = 4
"""Version of the JSON format. Manifests of any other version are refused."""

MANIFEST_KEY = "tinyvit"
"""Key under which file formats with metadata store the manifest, for example in ONNX metadata."""

_OUTPUT_LAYOUTS = ("NC", "NCHW", "NHWC", "")
"""Orders of the dimensions that an output may have; see `TensorSpec.layout`."""

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
    """Refuse a manifest without outputs, or with outputs that no artifact has together."""
    if len({spec.kind for spec in manifest.outputs}) != 1:
        raise ValueError("outputs has no entry, or entries of different kinds")
    if (manifest.output_kind == "logits") != bool(manifest.labels):
        raise ValueError("it has labels without logits, or logits without labels")
    if manifest.output_kind != "features" and len(manifest.outputs) > 1:
        raise ValueError(f"outputs has several entries of the kind {manifest.output_kind}")
    if len({spec.name for spec in manifest.outputs}) < len(manifest.outputs):
        raise ValueError("outputs has several entries of the same name")
    for spec in manifest.outputs:
        if spec.dtype != "float32" or spec.layout not in _OUTPUT_LAYOUTS:
            raise ValueError("outputs has an entry of an impossible dtype or layout")
        if (spec.kind == "features") != (spec.stride is not None and spec.stride >= 1):
            raise ValueError("outputs has an entry without the stride of its kind")
