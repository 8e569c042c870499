"""Imports what children need, once, in the process from which they are forked."""

import os
from contextlib import suppress

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tinyvit.bench.accuracy.suite
import tinyvit.bench.cli
import tinyvit.bench.commands.accuracy
import tinyvit.bench.commands.compare
import tinyvit.bench.commands.device
import tinyvit.bench.commands.report
import tinyvit.bench.devices.android
import tinyvit.bench.devices.session
import tinyvit.runtimes.classifier
import tinyvit.runtimes.verify
from tinyvit.privacy import use_temporary_caches
from tinyvit.runtimes.formats.onnx import ONNX
from tinyvit.runtimes.registry import engines_for_format

engines_for_format(ONNX)  # imports the modules of all engines

with suppress(ImportError), use_temporary_caches():
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401 (for its side effect)

    import tinyvit.bench.report.charts
    import tinyvit.bench.report.page
    import tinyvit.bench.report.text_formats

with suppress(ImportError):
    import onnx  # noqa: F401 (for its side effect)
    import onnxruntime  # noqa: F401 (for its side effect)
    import torch  # noqa: F401 (for its side effect)

    import tinyvit.bench.commands.latency
    import tinyvit.distill.commands.check_logits
    import tinyvit.distill.commands.convert_logits
    import tinyvit.distill.logits.check
    import tinyvit.distill.logits.convert  # noqa: F401

# The loaders need the modules above, and pytest.
import tests.hostile.loaders  # noqa: E402, F401 (after the suppressed imports)
