"""Passes that change a converted Core ML model in place.

The model is a protobuf message of coremltools, `Model_pb2.Model`. Its network is an ML Program, the
newer of Core ML's two forms of networks.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinyvit.errors import ArtifactError

if TYPE_CHECKING:
    from coremltools.proto import Model_pb2

INPUT = "image"
"""Name of the input."""
LOGITS = "logits"
"""Name of the output with the logits."""
PROBABILITIES = "probabilities"
"""Name of the output with one probability per class, before `add_classifier_outputs`."""
LABEL = "classLabel"
"""Name of the output with the most probable label; coremltools uses this name too."""
LABEL_PROBABILITIES = "classLabel_probs"
"""Name of the output with the probability of each label; coremltools uses this name too."""

_IOS16_SPECIFICATION = 7
"""Version of the model format that iOS 16 introduced."""
_IOS16_OPSET = "CoreML6"
"""Name of the set of operations that iOS 16 introduced."""

_OPERATIONS_EQUAL_IN_IOS16 = frozenset(
    (
        "add",
        "const",
        "constexpr_affine_dequantize",
        "conv",
        "gelu",
        "layer_norm",
        "linear",
        "matmul",
        "mul",
        "pad",
        "reduce_mean",
        "reshape",
        "slice_by_index",
        "softmax",
        "sub",
        "transpose",
    )
)
"""Operations of TinyViT that are encoded in the same bytes for iOS 16 and iOS 17."""


def add_classifier_outputs(model: Model_pb2.Model, names: Sequence[str]) -> None:
    """Replace the probabilities by the outputs of a classifier: a label, and a dictionary.

    Requires: an output `PROBABILITIES`.
    Changes: an operation "classify" is appended, and the outputs become `LABEL`,
        `LABEL_PROBABILITIES` (a dictionary from label to probability) and `LOGITS`.
    Why: Vision and Xcode recognize a classifier by these outputs. In coremltools 9.0, its own
        `_add_classify_op` raises IndexError if there is another output, such as the logits.

    Args:
        model: The model to change in place.
        names: One unique name per class, in the order of the logits.
    """
    from coremltools.proto import MIL_pb2

    string_type = MIL_pb2.ValueType(tensorType=MIL_pb2.TensorType(dataType=MIL_pb2.DataType.STRING))
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    operation = block.operations.add(type="classify")
    operation.attributes["name"].CopyFrom(_make_string("classify", string_type))
    operation.inputs["probabilities"].arguments.add(name=PROBABILITIES)
    classes = operation.inputs["classes"].arguments.add().value
    classes.type.listType.type.CopyFrom(string_type)
    classes.type.listType.length.constant.size = len(names)
    classes.immediateValue.list.values.extend(_make_string(name, string_type) for name in names)
    operation.outputs.add(name=LABEL).type.CopyFrom(string_type)
    dictionary = operation.outputs.add(name=LABEL_PROBABILITIES).type.dictionaryType
    dictionary.keyType.CopyFrom(string_type)
    dictionary.valueType.tensorType.dataType = MIL_pb2.DataType.FLOAT64
    block.outputs[:] = [LABEL, LABEL_PROBABILITIES, LOGITS]


def _make_string(text: str, string_type: Any) -> Any:
    """Make a constant string of an ML Program."""
    from coremltools.proto import MIL_pb2

    tensor = MIL_pb2.TensorValue(strings=MIL_pb2.TensorValue.RepeatedStrings(values=[text]))
    value = MIL_pb2.Value.ImmediateValue(tensor=tensor)
    return MIL_pb2.Value(type=string_type, immediateValue=value)


def mark_for_ios16(model: Model_pb2.Model) -> None:
    """Mark a program that was converted for iOS 17 as one for iOS 16.

    Requires: only operations that are encoded in the same bytes for both.
    Changes: the version of the specification and the name of the operation set.
    Why: iOS 16 opens programs with 8-bit weights, but coremltools 9.0 converts such programs only
        for iOS 17.

    Args:
        model: The model to change in place.

    Raises:
        ArtifactError: The program has an operation that may differ in iOS 16.
    """
    function = model.mlProgram.functions["main"]
    block = copy.deepcopy(function.block_specializations[function.opset])
    unknown = {operation.type for operation in block.operations} - _OPERATIONS_EQUAL_IN_IOS16
    if unknown:
        raise ArtifactError(
            "the Core ML program has operations that iOS 16 may not support: "
            f"{', '.join(sorted(unknown))}",
            "report this as a bug of tinyvit-edge",
        )
    function.block_specializations.clear()
    model.specificationVersion, function.opset = _IOS16_SPECIFICATION, _IOS16_OPSET
    function.block_specializations[function.opset].CopyFrom(block)
