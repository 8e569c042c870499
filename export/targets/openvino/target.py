"""The target "openvino": OpenVINO IR, an .xml file with its weights in a .bin file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvit.errors import MissingDependencyError
from tinyvit.export.targets import Target, check_supported
from tinyvit.export.targets.openvino.passes import optimize_graph
from tinyvit.export.targets.openvino.preprocess import add_preprocessing
from tinyvit.export.targets.openvino.writer import OpenVinoModel
from tinyvit.manifest_parts import EmbeddedPreprocessing, Precision
from tinyvit.preprocess import Preprocess
from tinyvit.privacy import hide_openvino_telemetry
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.engines.openvino import shared_core

if TYPE_CHECKING:
    import openvino

    from tinyvit.export.tracing import Graph


class OpenVinoTarget(Target):
    """The OpenVINO target, which makes OpenVINO IR files (.xml and .bin)."""

    name = "openvino"
    aliases = ("ov",)
    suffix = ".xml"
    extra = "openvino"
    tools = ("torch", "onnx", "onnx-ir", "onnxscript", "openvino")
    scheme = QuantScheme(activations="int8")

    def lower(
        self,
        graph: Graph,
        preprocess: Preprocess,
        embedded_preprocessing: EmbeddedPreprocessing,
        precision: Precision,
    ) -> OpenVinoModel:
        """Read the ONNX model of the graph and optimize it for OpenVINO; see `Target.lower`."""
        check_supported(self, precision, embedded_preprocessing, graph.batch)
        try:
            with hide_openvino_telemetry():
                import openvino
        except ImportError as error:
            raise MissingDependencyError.for_package("openvino", extra=self.extra) from error
        import onnx_ir as ir

        proto = ir.serde.serialize_model(graph.to_onnx())
        # `convert_model` would compute the Gather of the attention biases and store them expanded;
        # `read_model` does not.
        no_separate_weights = b""  # They are in the ONNX model.
        model = shared_core().read_model(proto.SerializeToString(), no_separate_weights)
        optimize_graph(model)
        model = add_preprocessing(model, preprocess, embedded_preprocessing)
        layout = "NCHW" if embedded_preprocessing == "host" else "NHWC"
        openvino.layout_helpers.set_layout(model.input(0), openvino.Layout(layout))
        _name_operations(model)
        return OpenVinoModel(model)


def _name_operations(model: openvino.Model) -> None:
    """Number the operations that have a default name by their position in the model.

    In OpenVINO's default name "Multiply_123", the number counts all operations that the process has
    made, so the same model would get different names in each export.
    """
    for i, operation in enumerate(model.get_ordered_ops()):
        if operation.get_friendly_name().startswith(f"{operation.get_type_name()}_"):
            operation.set_friendly_name(f"{operation.get_type_name()}_{i}")


TARGET = OpenVinoTarget()
