"""LiteRT (TensorFlow Lite): one .tflite file, for its XNNPACK kernels on CPUs. The manifest is in the archive behind it.

Pictures are NHWC, as mobile developers have them: float32 (N, size, size, 3), normalized, or uint8 pixels of the same shape. The file
also has TensorFlow Lite's own metadata and labels.txt, which its task library reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tinyvit.errors import MissingDependencyError
from tinyvit.export.targets import BaseTarget, LoweredModel
from tinyvit.export.targets.litert import metadata as metadata_litert
from tinyvit.export.targets.litert import passes as tune_litert
from tinyvit.export.tracing import INPUT, OUTPUT, in_one_line
from tinyvit.manifest import Manifest, Precision, PreprocessStage
from tinyvit.output_capture import silence_file_descriptors, silence_libraries
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.runtimes.formats import trailer

if TYPE_CHECKING:
    import torch

    from tinyvit.export.tracing import Graph

_QUANTIZED = "quantized_decomposed"
_HALVED: dict[Precision, int] = {"float16": 1024, "int8": 2**15}
"""Bytes from which on a float constant is stored as float16: all weights, attention biases and most biases; beside 8-bit layers only the
attention biases, which are half of the file."""


@dataclass(frozen=True)
class LiteRtModel(LoweredModel):
    """A model ready to be written: schema_py_generated.ModelT."""

    model: Any

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write one .tflite file: the network with its metadata, and behind it an archive of the labels and the manifest."""
        if (least := _HALVED.get(manifest.precision)) is not None:
            tune_litert.halve(self.model, least)
        tune_litert.attach(self.model, metadata_litert.BUFFER, metadata_litert.describe(manifest))
        data = tune_litert.pack(self.model)
        path.write_bytes(trailer.append(data, trailer.metadata_files(manifest)))
        return [path]


class LiteRtTarget(BaseTarget):
    """See `Target`."""

    name = "litert"
    aliases: tuple[str, ...] = ("tflite",)
    suffix = ".tflite"
    extra = "litert"
    tools = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")
    # XNNPACK's int8 layers give int8 only; the converter makes int32 biases itself, and takes weights as pairs of floats only.
    placement = QuantScheme(
        "int8", outputs="layers", attention=False, biases="float32", weights="rounded"
    )
    refused: ClassVar[dict[Precision | PreprocessStage, str]] = {
        "int8-weights": "it takes as long as float32, and half is nearly as small",
        "full": "LiteRT has no resize that is antialiased, which pictures need",
    }
    batches = "fixed"
    layout = "NHWC"

    def lower(self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage) -> LiteRtModel:
        """See `Target.lower`."""
        self.refuse(stage, graph.batch)
        with (
            in_one_line("converting the network to LiteRT"),
            silence_libraries("root", "litert_torch", "absl"),
            silence_file_descriptors(),
        ):
            try:
                import litert_torch
            except ImportError as error:
                raise MissingDependencyError.of("litert-torch", self.extra) from error
            network, example = _pictures_last(graph, preprocess, stage)
            data = litert_torch.convert(
                network, (example,), quant_config=_config(graph)
            ).model_content()
            model = _parsed(data)
        tune_litert.tune(model, (INPUT, OUTPUT))
        return LiteRtModel(model)


def _pictures_last(
    graph: Graph, preprocess: Preprocess, stage: PreprocessStage
) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network with an input of (N, size, size, 3), and an example of it."""
    import torch

    network = graph.program.module()
    tune_litert.write_norms_out(network)

    class PicturesLast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            if stage == "normalize":  # the arithmetic of Preprocess.normalize
                for name, value in zip(("scale", "shift"), preprocess.scale_and_shift()):
                    self.register_buffer(name, torch.from_numpy(value))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if stage == "normalize":
                image = image.float() * self.get_buffer("scale") - self.get_buffer("shift")
            return self.network(image.permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    made = PicturesLast()
    made.training = False  # an exported network refuses eval()
    dtype = torch.uint8 if stage == "normalize" else torch.float32
    return made, torch.zeros(graph.batch or 1, graph.img_size, graph.img_size, 3, dtype=dtype)


def _config(graph: Graph) -> Any:
    """What tells the converter to make integer kernels of quantize-dequantize pairs; None where there are none."""
    if not any(_QUANTIZED in str(node.target) for node in graph.program.graph.nodes):
        return None
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig

    settings = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(settings))


def _parsed(data: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data)


TARGET = LiteRtTarget()
