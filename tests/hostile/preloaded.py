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

with suppress(ImportError), use_temporary_caches():
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401

with suppress(ImportError):
    import tinyvit.bench.commands.latency
    import tinyvit.distill.commands.check_logits
    import tinyvit.distill.commands.convert_logits
    import tinyvit.distill.logits.check
    import tinyvit.distill.logits.convert  # noqa: F401

import tests.hostile.loaders  # noqa: F401 (the loaders need the modules above, and pytest)
