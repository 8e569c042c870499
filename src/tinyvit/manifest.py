"""The manifest: what an artifact says of itself. It travels in the file, as JSON, and needs no engine to read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from tinyvit.errors import ArtifactError
from tinyvit.labels import MAX_CLASSES, Label
from tinyvit.preprocess import Preprocess
from tinyvit.serialization import field_types, matches_type

FORMAT = 1
MANIFEST_KEY = "tinyvit"
MAX_BYTES = 64 * 2**20

PreprocessStage = Literal["host", "normalize", "full"]
"""Where preprocessing ends outside the file: "host", all of it, and the input is float32 NCHW, normalized;
"normalize", resize and crop, and the input is uint8 NHWC; "full", nothing, and the input is one uint8 picture."""

Precision = Literal["float32", "float16", "int8", "int8-weights"]
"""Of a network. "float16": weights of 16 bits, and products in the half type that the processor has, bfloat16 or float16, in float32
where it has none. "int8": weights and activations. "int8-weights": weights alone, to be small; the products are float32's."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. shape has a name (such as "batch") where any size is taken; layout is "NCHW", "NHWC" or "NC"."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class SourceCheckpoint:
    """The checkpoint that the artifact was made from."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Parity:
    """The artifact's logits on the golden inputs against the torch model's: largest absolute difference, and against what."""

    max_abs_diff: float
    against: str
    engine: str


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs by formula (golden.py), of (height, width) pixels, and the logits, (patterns, classes), to be met within tolerance.

    tolerance is absolute.
    """

    formula: str
    patterns: tuple[int, ...]
    height: int
    width: int
    logits: tuple[tuple[float, ...], ...]
    tolerance: float


@dataclass(frozen=True)
class Quantization:
    """How an int8 artifact came about, and what it was measured to be worth on the machine that made it.

    method: the observer. data, data_count: hash and number of the calibration images. recipe: its sha256. weight_bits: 7 where
    no sum can saturate on any processor, or 8. cpu: "any", or the feature ("vnni") without which sums saturate.
    float_units: what was left in float32. int8_macs: share of the multiply-accumulates that ran in integer kernels, 0 to 1,
    read from the engine. agreement: percent of `images` with float32's top-1; top1, float_top1: percent correct, None
    without labels. trials: what was tried to meet the budget, in words. measured_on: processor features. forced: the budget
    was missed and --force given.
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
    """Everything an artifact carries besides the network.

    content_sha256 covers the file but the manifest itself; sha256 covers the manifest, and is what was read ("" until then).
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
    format: int = field(default=FORMAT)
    sha256: str = field(default="", compare=False)

    def to_json(self) -> str:
        """One line of JSON, with the digest that it has now; equal manifests give equal text."""
        return self._text(self._digest())

    @property
    def intact(self) -> bool:
        """Whether what was read has the digest that it was written with.

        A checksum against accidents and careless edits, and no signature: who changes the rest on purpose can change it too.
        """
        return self.sha256 == self._digest()

    def _digest(self) -> str:
        """Hex digest of the JSON whose own digest is empty."""
        return hashlib.sha256(self._text("").encode("ascii")).hexdigest()

    def _text(self, digest: str) -> str:
        data = {**asdict(self), "sha256": digest}
        data["labels"] = {
            "names": [x.name for x in self.labels],
            "wnids": [x.wnid for x in self.labels],
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`, `intact` or not. Raises ArtifactError where the text is no manifest, or of a later format."""
        if len(text) > MAX_BYTES:
            raise ArtifactError(
                "the file's manifest is larger than 64 MiB",
                "the file is damaged or hostile: export it again",
            )
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise ArtifactError(
                    f"the manifest has format {data['format']}, this version reads {FORMAT}",
                    "upgrade tinyvit-edge",
                )
            return _checked(cls(**{**data, **_typed(data)}))
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ArtifactError(
                f"the file's manifest is damaged ({type(error).__name__}: {error})",
                "export the file again",
            ) from error


def _typed(data: dict[str, Any]) -> dict[str, Any]:
    names, wnids = data["labels"]["names"], data["labels"]["wnids"]
    if (
        len(names) != len(wnids)
        or len(names) > MAX_CLASSES
        or not all(isinstance(x, str) for x in (*names, *wnids))
    ):
        raise ValueError("labels")
    if data["stage"] not in get_args(PreprocessStage):
        raise ValueError(f"stage {data['stage']!r}")
    golden, parity, quantization = data["golden"], data["parity"], data.get("quantization")
    return {
        "labels": tuple(Label(name, wnid) for name, wnid in zip(names, wnids)),
        "preprocess": Preprocess.from_dict(data["preprocess"]),
        "input": _spec(data["input"]),
        "output": _spec(data["output"]),
        "source": SourceCheckpoint(**data["source"]),
        "golden": golden
        and GoldenVectors(
            **{
                **golden,
                "patterns": tuple(golden["patterns"]),
                "logits": tuple(map(tuple, golden["logits"])),
            }
        ),
        "parity": parity and Parity(**parity),
        "quantization": quantization and _quantization(quantization),
    }


def _checked(manifest: Manifest) -> Manifest:
    """The manifest, every field of the type that is declared for it; raises TypeError naming the first that is not."""
    for name, kind in field_types(Manifest).items():
        if not matches_type(getattr(manifest, name), kind):
            raise TypeError(f"{name} is not what it should be")
    return manifest


def _quantization(data: dict[str, Any]) -> Quantization:
    return Quantization(
        **{**data, "float_units": tuple(data["float_units"]), "trials": tuple(data["trials"])}
    )


def _spec(data: dict[str, Any]) -> TensorSpec:
    return TensorSpec(**{**data, "shape": tuple(data["shape"])})
