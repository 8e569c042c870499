"""How a file is asked about pictures, in this process or in another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyvit.preprocess import paper_preprocess, timm_preprocess
from tinyvit.runtimes.classifier import Classifier

Named = Literal["artifact", "paper", "timm"]
_NAMED = {"paper": paper_preprocess, "timm": timm_preprocess}


@dataclass(frozen=True)
class EvaluationOptions:
    """How to look. preprocess: the file's own, or the paper's or timm's evaluation for its size. only_known: leave out pictures of classes
    that a model does not have. journal: where an interrupted run goes on from. meter: writes progress. ray: the address of a cluster that
    shares the work, "" for one on this machine."""

    runtime: str | None = None
    device: str = "auto"
    threads: int | None = None
    preprocess: Named = "artifact"
    only_known: bool = False
    journal: Path | None = None
    meter: Callable[[str], object] | None = None
    ray: str | None = None


def open_classifier(given: str, asked: EvaluationOptions) -> Classifier:
    """A file as `asked` for; raises what Classifier raises, and RequestError where its preprocessing is its own alone."""
    one = Classifier(given, asked.runtime, asked.device, asked.threads)
    if asked.preprocess == "artifact":
        return one
    with one:
        preprocess = _NAMED[asked.preprocess](one.preprocess.size)
    return Classifier(given, asked.runtime, asked.device, asked.threads, preprocess=preprocess)
