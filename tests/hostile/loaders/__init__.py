"""All loaders of the campaign."""

from __future__ import annotations

from importlib.util import find_spec

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import (
    bench_runs,
    calibration_sources,
    coreml_packages,
    datasets,
    encoder_files,
    engine_files,
    image_files,
    image_urls,
    label_files,
    manifests,
    onnx_files,
    openvino_files,
    ort_files,
    parquet_files,
    profiles,
    pte_files,
    qnn_files,
    records,
    rknn_files,
    sensitivity_files,
    stated_networks,
    tflite_files,
    truth_files,
)

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *encoder_files.LOADERS,
    *ort_files.LOADERS,
    *openvino_files.LOADERS,
    *tflite_files.LOADERS,
    *pte_files.LOADERS,
    *coreml_packages.LOADERS,
    *engine_files.LOADERS,
    *qnn_files.LOADERS,
    *rknn_files.LOADERS,
    *stated_networks.LOADERS,
    *manifests.LOADERS,
    *label_files.LOADERS,
    *image_files.LOADERS,
    *image_urls.LOADERS,
    *datasets.LOADERS,
    *truth_files.LOADERS,
    *calibration_sources.LOADERS,
    *records.LOADERS,
    *bench_runs.LOADERS,
    *parquet_files.LOADERS,
    *profiles.LOADERS,
    *sensitivity_files.LOADERS,
)

if find_spec("torch"):  # otherwise, the modules that these loaders try cannot be imported
    from tests.hostile.loaders import (
        checkpoint_folders,
        logits_stores,
        sam_checkpoints,
        torch_checkpoints,
        training_files,
    )

    LOADERS += (
        *torch_checkpoints.LOADERS,
        *sam_checkpoints.LOADERS,
        *checkpoint_folders.LOADERS,
        *training_files.LOADERS,
        *logits_stores.LOADERS,
    )
