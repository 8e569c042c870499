"""The engine qnn-emulator: runs files in Qualcomm's emulator of the Hexagon NPU, on x86-64 Linux.

The emulator computes what the NPU computes, so that a file can be checked without a device. An
image of 224 x 224 pixels takes several seconds, which says nothing about the NPU's latency.
"""

from __future__ import annotations

from tinyvit.errors import RequestError
from tinyvit.runtimes import qualcomm
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeOptions
from tinyvit.runtimes.engine_helpers import refuse_reference_options
from tinyvit.runtimes.engines.qnn import open_on_npu
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.formats.qnn_context import QNN_CONTEXT


class QnnEmulatorEngine(Engine):
    """The emulator of onnxruntime-qnn."""

    name = "qnn-emulator"
    formats = (QNN_CONTEXT, ONNX)
    package = qualcomm.PACKAGE
    extra = qualcomm.EXTRA
    is_reference = True

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a file; see `Engine.open`."""
        refuse_reference_options(
            options, "the emulator", "computes on one thread, which cannot be changed"
        )
        return open_on_npu(artifact, options, self.name, _find_chip(artifact))


ENGINE = QnnEmulatorEngine()


def _find_chip(artifact: Artifact) -> qualcomm.Chip:
    """Return the chip that a file is compiled for, or the default one."""
    manifest = artifact.manifest
    if manifest is None or manifest.compilation is None or not manifest.compilation.chip:
        return qualcomm.DEFAULT_CHIP
    name = manifest.compilation.chip
    if name not in qualcomm.CHIPS:
        raise RequestError(
            f"{artifact.path.name} is compiled for the chip {name}, which is not known here",
            f"known chips are {', '.join(qualcomm.CHIPS)}",
        )
    return qualcomm.CHIPS[name]
