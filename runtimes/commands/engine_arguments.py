"""Command-line arguments that tinyvit-predict and tinyvit-verify share."""

from __future__ import annotations

import argparse

from tinyvit.cli import positive_int
from tinyvit.runtimes import registry
from tinyvit.runtimes.artifact import known_suffixes
from tinyvit.runtimes.base import AUTO_DEVICE, PRECISIONS


def add_file_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument FILE."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help=f"An exported file ({known_suffixes()}), or demo for the model in this package, which"
        " is exported the first time.",
    )


def add_streams_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option --streams, for commands that run many images."""
    parser.add_argument(
        "--streams",
        type=positive_int,
        default=1,
        metavar="COUNT",
        help="Number of batches to compute at the same time, each on --threads threads (with"
        " several streams: 1 by default). For many images, one stream for each core is faster than"
        f" one stream on all cores. Only for {', '.join(registry.streaming_engines())}.",
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that select an engine and how it runs."""
    parser.add_argument(
        "--runtime",
        metavar="ENGINE",
        help=f"Inference engine that runs the file: {', '.join(registry.engine_names())}"
        " (default: the best installed one for the file).",
    )
    parser.add_argument(
        "--device",
        default=AUTO_DEVICE,
        metavar="DEVICE",
        help="Device to run on: cpu, gpu, npu, or the engine's own name of a device"
        " (default: cpu; for tensorrt: gpu).",
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="COUNT",
        help="Number of CPU threads of the engine (default: depends on the engine).",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="Precision of the arithmetic (default: the precision of the exported file).",
    )
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="Folder in which the engine keeps its compiled form of the file, so that the file"
        f" opens faster the next time. Only for {', '.join(registry.caching_engines())}.",
    )
    parser.add_argument(
        "--allow-foreign-operators",
        action="store_true",
        help="Run a file with operators that image classifiers do not need, such as loops. They may"
        " run forever or fill the memory, so use this only if you trust the file.",
    )
