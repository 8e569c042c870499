"""All loaders of the campaign."""

from __future__ import annotations

from importlib.util import find_spec

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import label_files, onnx_files, openvino_files, ort_files

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *ort_files.LOADERS,
    *openvino_files.LOADERS,
    *label_files.LOADERS,
)

if find_spec("torch"):  # otherwise, the modules that these loaders try cannot be imported
    from tests.hostile.loaders import checkpoint_folders, torch_checkpoints, training_files

    LOADERS += (
        *torch_checkpoints.LOADERS,
        *checkpoint_folders.LOADERS,
        *training_files.LOADERS,
    )
