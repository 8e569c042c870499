"""Writes a Core ML package: a folder with a classifier, its descriptions and its weights."""

from __future__ import annotations

import copy
import json
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.export.targets.base import LoweredModel
from tinyvit.export.targets.coreml.passes import (
    LABEL,
    LABEL_PROBABILITIES,
    LOGITS,
    add_classifier_outputs,
)
from tinyvit.image_sizes import describe_size
from tinyvit.labels import Label
from tinyvit.manifest import MANIFEST_KEY, Manifest

if TYPE_CHECKING:
    from coremltools.proto import Model_pb2

_AUTHOR = "com.apple.CoreML"
"""Author of every file in a package, as Core ML's own tools write it."""
_MODEL_PATH = "com.apple.CoreML/model.mlmodel"
"""Path of the model in the folder "Data" of a package."""
_WEIGHTS_PATH = "com.apple.CoreML/weights"
"""Path of the folder of weights in the folder "Data" of a package."""


@dataclass(frozen=True)
class CoreMlModel(LoweredModel):
    """A converted network that is ready to be written.

    Attributes:
        model: A model (1, 3, height, width) -> logits and probabilities without labels, or other
            outputs.
        weights: Content of the weights file that the model refers to.
    """

    model: Model_pb2.Model
    weights: bytes

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the folder at `path`, replacing files that exist; see `LoweredModel.save`."""
        model = copy.deepcopy(self.model)
        if manifest.output_kind == "logits":
            add_classifier_outputs(model, make_class_names(manifest.labels))
            _describe_classes(model)
        describe_model(model, manifest)
        write_package(path, bytes(model.SerializeToString(deterministic=True)), self.weights)
        return [path]


def make_class_names(labels: tuple[Label, ...]) -> list[str]:
    """Give each class a unique name.

    The names become the keys of a dictionary, but ImageNet has two classes called "crane" and two
    called "maillot".

    Args:
        labels: One label per class.

    Returns:
        One name per class. If several classes share a label, the WordNet id of the class is added
        to its name, or the index of the class if it has no WordNet id.
    """
    counts = Counter(label.name for label in labels)
    names: list[str] = []
    used_names = {name for name, count in counts.items() if count == 1}
    for i, label in enumerate(labels):
        name = label.name
        if counts[name] > 1:
            name = f"{label.name} ({label.wnid or i})"
            while name in used_names:
                name = f"{name} ({i})"
            used_names.add(name)
        names.append(name)
    return names


def describe_model(model: Model_pb2.Model, manifest: Manifest) -> None:
    """Set the descriptions that Xcode shows.

    Args:
        model: A model with the outputs of the artifact; changed in place.
        manifest: The manifest of the artifact, which is stored in the metadata.
    """
    _describe_tensors(model, manifest)
    metadata = model.description.metadata
    purpose = {
        "logits": f"an image classifier of {len(manifest.labels)} classes",
        "embedding": "the embedding of an image",
        "features": "feature maps of an image",
    }[manifest.output_kind]
    metadata.shortDescription = f"{manifest.model}: {purpose}, {manifest.precision}"
    metadata.license = manifest.license
    # Remove what coremltools records: its version, torch's version and the date. With the date,
    # files that are made on different days would differ.
    metadata.userDefined.clear()
    if manifest.embedded_preprocessing == "normalize" and manifest.output_kind == "logits":
        metadata.userDefined["com.apple.coreml.model.preview.type"] = "imageClassifier"
    metadata.userDefined[MANIFEST_KEY] = manifest.to_json()


def _describe_classes(model: Model_pb2.Model) -> None:
    """Describe the three outputs of a classifier, by which Vision recognizes it."""
    description = model.description
    logits = next(copy.deepcopy(output) for output in description.output if output.name == LOGITS)
    logits.shortDescription = "The network's output before softmax, one value per class"
    del description.output[:]
    label = description.output.add(name=LABEL, shortDescription="Label of the most probable class")
    label.type.stringType.SetInParent()
    probabilities = description.output.add(
        name=LABEL_PROBABILITIES, shortDescription="Probability of each class, by its label"
    )
    probabilities.type.dictionaryType.stringKeyType.SetInParent()
    description.output.add().CopyFrom(logits)
    description.predictedFeatureName = LABEL
    description.predictedProbabilitiesName = LABEL_PROBABILITIES


def _describe_tensors(model: Model_pb2.Model, manifest: Manifest) -> None:
    """Describe the input, and the outputs of a model that is not a classifier."""
    for output in model.description.output:
        for spec in manifest.outputs:
            if output.name == spec.name and spec.kind == "embedding":
                output.shortDescription = "One vector for the image"
            elif output.name == spec.name and spec.kind == "features":
                output.shortDescription = (
                    f"A feature map for {spec.stride} pixels in each direction"
                )
    pixel_format = "RGB in planes, normalized: less the mean, divided by std"
    if manifest.embedded_preprocessing == "normalize":
        pixel_format = "RGB; the model subtracts the mean and divides by std"
    size = describe_size(manifest.img_size)
    model.description.input[0].shortDescription = f"An image of {size} pixels, {pixel_format}"


def write_package(path: Path, model: bytes, weights: bytes) -> None:
    """Write an .mlpackage folder of three files.

    coremltools' own writer adds random identifiers and debugging information; this one writes the
    same bytes for the same model.

    Args:
        path: The folder to write; files that exist are replaced.
        model: A serialized `Model_pb2.Model`.
        weights: Content of the weights file.
    """
    for name, data in ((_MODEL_PATH, model), (f"{_WEIGHTS_PATH}/weight.bin", weights)):
        file = path / "Data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    descriptions = {
        _MODEL_PATH: "CoreML Model Specification",
        _WEIGHTS_PATH: "CoreML Model Weights",
    }
    entries = {
        str(uuid.uuid5(uuid.NAMESPACE_URL, package_path)): {
            "author": _AUTHOR,
            "description": description,
            "name": package_path.rpartition("/")[2],
            "path": package_path,
        }
        for package_path, description in descriptions.items()
    }
    index = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": next(iter(entries)),
    }
    text = json.dumps(index, indent=4, sort_keys=True) + "\n"
    (path / "Manifest.json").write_bytes(text.encode("ascii"))
