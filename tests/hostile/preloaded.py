"""Imports what children need, once, in the process from which they are forked."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tinyvit.runtimes.classifier
import tinyvit.runtimes.verify  # noqa: F401
