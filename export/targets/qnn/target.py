"""The target "qnn": ONNX files for the Hexagon NPUs of Qualcomm's chips.

Without --soc, the file is an ONNX network in the form that the NPU runs as a whole; onnxruntime
compiles it on the device. With --soc, the file contains the network compiled for one chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyvit.errors import RequestError
from tinyvit.export.passes.onnx_serialization import serialize_checked
from tinyvit.export.passes.product_macs import count_product_macs
from tinyvit.export.targets import Feature, Target, check_supported
from tinyvit.export.targets.qnn.options import QNN_OPTIONS, QnnOptions, parse_options
from tinyvit.export.targets.qnn.passes import rewrite_quantized_network, store_weights_in_float16
from tinyvit.export.targets.qnn.writer import QnnModel
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.runtimes import qualcomm

if TYPE_CHECKING:
    import onnx_ir as ir

    from tinyvit.export.tracing import Graph

_FIRST_OPSET = 20
"""First ONNX opset with GELU as one operator, which the compiler takes to the NPU."""
_PREPROCESSING_REASON = "the NPU takes normalized images, which it quantizes itself"


class QnnTarget(Target):
    """The target for Hexagon NPUs, which makes .qnn.onnx files.

    Attributes:
        qnn_options: How the files are made.
    """

    name = "qnn"
    engine_title = "a Hexagon NPU"
    aliases = ("qualcomm", "hexagon", "snapdragon")
    extra = qualcomm.EXTRA
    tools = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime-qnn")
    unsupported: Mapping[Feature, str] = {
        "float32": "Hexagon NPUs compute in float16 or in integers",
        "int8-weights": "a Hexagon NPU that multiplies int8 weights needs integer activations",
        "normalize": _PREPROCESSING_REASON,
        "full": _PREPROCESSING_REASON,
    }
    batch_sizes = "fixed"
    options = QNN_OPTIONS

    def __init__(self, qnn_options: QnnOptions) -> None:
        """Make the target for the chips of its options.

        Args:
            qnn_options: How the files are made.
        """
        self.qnn_options, self.scheme = qnn_options, qnn_options.scheme
        self.suffix, self.parity_method = ".qnn.onnx", "reference"
        self.reference_engine = "onnxruntime"
        if qnn_options.chips:
            # onnxruntime on a CPU runs the network before it is compiled, but not after.
            self.parity_method = "graph"
            self.suffix = f".{qnn_options.chips[0].name}.qnn.onnx"

    def with_options(self, values: Mapping[str, str]) -> QnnTarget:
        """Return the target for other options; see `Target.with_options`."""
        return QnnTarget(parse_options(values))

    def split(self) -> tuple[QnnTarget, ...]:
        """Return one target for each chip; see `Target.split`."""
        chips = self.qnn_options.chips
        if len(chips) <= 1:
            return (self,)
        return tuple(QnnTarget(replace(self.qnn_options, chips=(chip,))) for chip in chips)

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> QnnModel:
        """Make the network, and compile it; see `Target.lower`.

        A file without --soc is compiled too, for the default chip, to learn what stays on the CPU.
        """
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        chip = self.qnn_options.chips[0] if self.qnn_options.chips else None
        compiled_chip = chip or qualcomm.DEFAULT_CHIP
        if precision == "float16" and not compiled_chip.has_float16:
            raise RequestError(
                f"the NPU of the chip {compiled_chip.name} does not compute in float16",
                "use --int8 for this chip",
            )
        if precision == "float16" and self.qnn_options.has_8bit_activations:
            raise RequestError(
                "--activations 8 was given for a float16 network, whose activations have 16 bits",
                "use --int8, or leave out --activations",
            )
        model = make_onnx_model(graph, precision)
        data = serialize_checked(model)
        compiled = qualcomm.compile_network(data, compiled_chip)
        lowered = QnnModel(data, compiled, compiled_chip, chip is not None, _count_macs(model))
        if self.qnn_options.is_strict and compiled.cpu_outputs:
            raise RequestError(
                f"--strict was given, and {lowered.describe_cpu_operators()}",
                "leave out --strict, or use --activations 16 with --int8",
            )
        return lowered

    def make_parity_model(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> bytes:
        """Make the ONNX model that is compiled; see `Target.make_parity_model`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        return serialize_checked(make_onnx_model(graph, precision))


def make_onnx_model(graph: Graph, precision: Precision) -> ir.Model:
    """Make the network in the form that Qualcomm's compiler reads.

    Args:
        graph: The traced network.
        precision: "float16" or "int8".

    Returns:
        An ONNX model that onnxruntime can run on a CPU too.

    Raises:
        RequestError: The opset is too old.
    """
    if graph.opset < _FIRST_OPSET:
        raise RequestError(
            f"ONNX opset {graph.opset} has no GELU operator, which the target qnn needs",
            f"use --opset {_FIRST_OPSET} or later, or leave out --opset",
        )
    model = graph.to_onnx()
    if precision == "float16":
        store_weights_in_float16(model)
    else:
        rewrite_quantized_network(model)
    return model


def _count_macs(model: ir.Model) -> dict[str, int]:
    """Return the multiply-accumulates of each product, by the name of its output."""
    outputs = {node.name: node.outputs[0].name for node in model.graph}
    return {outputs[name] or "": macs for name, macs in count_product_macs(model).items()}


TARGET = QnnTarget(QnnOptions())
