"""Imports what children need, once, in the process from which they are forked."""

import contextlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from PIL import Image

import tinyvit.bench.accuracy.hub
import tinyvit.bench.accuracy.suite
import tinyvit.bench.cli
import tinyvit.bench.report.console
import tinyvit.quant.calibration_data
import tinyvit.runtimes.classifier
import tinyvit.runtimes.verify  # noqa: F401

Image.init()

with contextlib.suppress(ImportError, pytest.skip.Exception):
    from tests.hostile.small_artifact import read_small_artifact

    read_small_artifact()

with contextlib.suppress(ImportError):
    from tinyvit.privacy import hide_openvino_telemetry

    with hide_openvino_telemetry():
        import openvino  # noqa: F401
