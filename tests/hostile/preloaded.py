"""Imports what children need, once, in the process from which they are forked."""

import os
from contextlib import suppress

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

with suppress(ImportError, pytest.skip.Exception):
    from tests.hostile.small_artifact import read_small_artifact

    read_small_artifact()
