"""The commands that use an exported file: tinyvit-predict, tinyvit-verify and tinyvit-inspect.

With `--json`, each prints exactly one JSON object on stdout. `tinyvit.cli` documents the exit
codes.
"""

from __future__ import annotations

from tinyvit.runtimes.commands.inspect import inspect, make_inspect_parser
from tinyvit.runtimes.commands.predict import make_predict_parser, predict
from tinyvit.runtimes.commands.verify import make_verify_parser, verify, verify_in_this_process

__all__ = [
    "inspect",
    "make_inspect_parser",
    "make_predict_parser",
    "make_verify_parser",
    "predict",
    "verify",
    "verify_in_this_process",
]
