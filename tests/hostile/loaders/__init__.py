"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import (
    bench_runs,
    logits_stores,
    manifests,
    onnx_files,
    records,
    run_folders,
)

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *records.LOADERS,
    *bench_runs.LOADERS,
    *logits_stores.LOADERS,
    *manifests.LOADERS,
    *run_folders.LOADERS,
)
