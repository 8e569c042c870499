"""The package of a Core ML model: its classes, its descriptions, and a folder with the same bytes each time."""

from __future__ import annotations

import copy
import json
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.errors import ArtifactError
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, Manifest

if TYPE_CHECKING:
    from coremltools.proto import Model_pb2

INPUT, LOGITS, PROBABILITIES = "image", "logits", "probabilities"
LABEL, LABEL_PROBABILITIES = "classLabel", "classLabel_probs"
"""The names that coremltools gives a classifier's outputs."""

_IOS16 = (7, "CoreML6")
"""Version of the specification, and name of the set of operations."""
_SAME_IN_16 = frozenset(
    [
        "add",
        "const",
        "constexpr_affine_dequantize",
        "conv",
        "gelu",
        "layer_norm",
        "linear",
        "matmul",
        "mul",
        "reduce_mean",
        "reshape",
        "softmax",
        "sub",
        "transpose",
    ]
)
"""Operations of TinyViT that are written in iOS 17's programs as in iOS 16's, to the byte."""

_MODEL, _WEIGHTS = "com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"


def class_names(labels: tuple[Label, ...]) -> list[str]:
    """One name a class, no two the same, for a dictionary has them as its keys: ImageNet has two cranes and two maillots.

    A name that comes twice gets its WordNet id or, without one, its index.
    """
    times = Counter(label.name for label in labels)
    names: list[str] = []
    taken = {name for name, count in times.items() if count == 1}
    for i, label in enumerate(labels):
        name = label.name
        if times[name] > 1:
            name = f"{label.name} ({label.wnid or i})"
            while name in taken:
                name = f"{name} ({i})"
            taken.add(name)
        names.append(name)
    return names


def finished(model: Model_pb2.Model, manifest: Manifest) -> bytes:
    """The converted model as a classifier with its manifest, serialized."""
    model = copy.deepcopy(model)
    _classify(model, class_names(manifest.labels))
    _describe(model, manifest)
    return bytes(model.SerializeToString(deterministic=True))


def mark_for_ios16(model: Model_pb2.Model) -> None:
    """Mark a program that was converted for iOS 17 for 16. Raises ArtifactError where an operation may be another one there."""
    function = model.mlProgram.functions["main"]
    block = copy.deepcopy(function.block_specializations[function.opset])
    if strange := {operation.type for operation in block.operations} - _SAME_IN_16:
        raise ArtifactError(
            f"the program has {', '.join(sorted(strange))}, not known to be iOS 16's", "report this"
        )
    function.block_specializations.clear()
    model.specificationVersion, function.opset = _IOS16
    function.block_specializations[function.opset].CopyFrom(block)


def write(path: Path, model: bytes, weights: bytes) -> None:
    """The folder at `path`, of three files; what coremltools' own writer adds are random identifiers and notes for debugging."""
    for name, data in ((_MODEL, model), (f"{_WEIGHTS}/weight.bin", weights)):
        file = path / "Data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    items = {
        str(uuid.uuid5(uuid.NAMESPACE_URL, inside)): {
            "author": "com.apple.CoreML",
            "description": description,
            "name": inside.rpartition("/")[2],
            "path": inside,
        }
        for inside, description in (
            (_MODEL, "CoreML Model Specification"),
            (_WEIGHTS, "CoreML Model Weights"),
        )
    }
    index = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": next(iter(items)),
    }
    (path / "Manifest.json").write_text(
        json.dumps(index, indent=4, sort_keys=True) + "\n", encoding="ascii"
    )


def _classify(model: Model_pb2.Model, names: list[str]) -> None:
    """Replace the output of probabilities by a label and a dictionary.

    As coremltools' own _add_classify_op does, which fails (9.0, IndexError) where there is a further output, our logits.
    """
    from coremltools.proto import MIL_pb2

    strings = MIL_pb2.ValueType(tensorType=MIL_pb2.TensorType(dataType=MIL_pb2.DataType.STRING))

    def text(value: str) -> Any:
        tensor = MIL_pb2.TensorValue(strings=MIL_pb2.TensorValue.RepeatedStrings(values=[value]))
        return MIL_pb2.Value(
            type=strings, immediateValue=MIL_pb2.Value.ImmediateValue(tensor=tensor)
        )

    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    operation = block.operations.add(type="classify")
    operation.attributes["name"].CopyFrom(text("classify"))
    operation.inputs["probabilities"].arguments.add(name=PROBABILITIES)
    classes = operation.inputs["classes"].arguments.add().value
    classes.type.listType.type.CopyFrom(strings)
    classes.type.listType.length.constant.size = len(names)
    classes.immediateValue.list.values.extend(map(text, names))
    operation.outputs.add(name=LABEL).type.CopyFrom(strings)
    dictionary = operation.outputs.add(name=LABEL_PROBABILITIES).type.dictionaryType
    dictionary.keyType.CopyFrom(strings)
    dictionary.valueType.tensorType.dataType = MIL_pb2.DataType.FLOAT64
    block.outputs[:] = [LABEL, LABEL_PROBABILITIES, LOGITS]


def _describe(model: Model_pb2.Model, manifest: Manifest) -> None:
    """What Xcode shows, and what Vision knows a classifier by."""
    described = model.description
    logits = next(copy.deepcopy(output) for output in described.output if output.name == LOGITS)
    del described.output[:]
    label = described.output.add(name=LABEL, shortDescription="The most probable class")
    label.type.stringType.SetInParent()
    every = described.output.add(
        name=LABEL_PROBABILITIES, shortDescription="Each class with its probability"
    )
    every.type.dictionaryType.stringKeyType.SetInParent()
    described.output.add().CopyFrom(logits)
    described.output[
        -1
    ].shortDescription = "The network's answer before softmax, one number a class"
    described.predictedFeatureName, described.predictedProbabilitiesName = (
        LABEL,
        LABEL_PROBABILITIES,
    )
    pixels = f"A picture of {manifest.img_size} x {manifest.img_size} pixels"
    how = (
        "RGB; mean and std are in the model"
        if manifest.stage == "normalize"
        else "RGB by rows, less the mean, over std"
    )
    described.input[0].shortDescription = f"{pixels}, {how}"
    described.metadata.shortDescription = f"{manifest.model}: an image classifier of {len(manifest.labels)} classes, {manifest.precision}"
    described.metadata.license = manifest.license
    # coremltools writes its version, torch's and the day, and the day would make every day's file another one.
    described.metadata.userDefined.clear()
    if manifest.stage == "normalize":
        described.metadata.userDefined["com.apple.coreml.model.preview.type"] = "imageClassifier"
    described.metadata.userDefined[MANIFEST_KEY] = manifest.to_json()
