"""Imports what children need, once, in the process from which they are forked."""

import contextlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tinyvit.runtimes.classifier
import tinyvit.runtimes.verify

with contextlib.suppress(ImportError):
    import tinyvit.nn.model  # noqa: F401
