"""The targets, one file each: what an artifact for an engine is made with.

Each file imports its SDK inside functions only, and has at module level `TARGET`, an object with the attributes of the
`Target` protocol. A file added here is a new target; nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from tinyvit.errors import RequestError
from tinyvit.manifest import Manifest, Precision, PreprocessStage, TensorSpec
from tinyvit.preprocess import Preprocess
from tinyvit.quant_scheme import QuantScheme
from tinyvit.variants import nearest_name

if TYPE_CHECKING:
    from tinyvit.export.tracing import Graph


class LoweredModel(Protocol):
    """An artifact in memory, still without its manifest."""

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the artifact with this manifest in it; returns the files written, `path` itself last."""
        ...

    def recorded(self, manifest: Manifest) -> Manifest:
        """The manifest with what was found in making the artifact; for most that is nothing."""
        return manifest

    def notes(self, precision: Precision) -> tuple[str, ...]:
        """What people should know of the artifact, a sentence each."""
        return ()


@dataclass(frozen=True)
class TargetOption:
    """An option of one target: --flag on the command line, `name` in Python. choices None takes any text."""

    name: str
    help: str
    choices: tuple[str, ...] | None = None

    @property
    def flag(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")


class Target(Protocol):
    """How one kind of artifact is made.

    tools: the distributions whose versions decide the bytes. placement: how its engine wants int8. refused: the precisions and stages
    that it does not offer, and why. batches: how many images a file may take: "one", another "fixed" number too, or "any", left open.
    layout: of a float32 input.
    proof: what an artifact is held against its network in, on this machine: its "engine"; a "reference" evaluator of its format, called
    `reference`; or only the "graph" that it is made from, in onnxruntime. options: what tinyvit-export asks for it alone.
    """

    name: str
    aliases: tuple[str, ...]
    suffix: str
    extra: str
    tools: tuple[str, ...]
    placement: QuantScheme
    refused: dict[Precision | PreprocessStage, str]
    batches: Literal["one", "fixed", "any"]
    layout: Literal["NCHW", "NHWC"]
    proof: Literal["engine", "reference", "graph"]
    reference: str | None
    options: tuple[TargetOption, ...]

    def configured(self, values: Mapping[str, Any]) -> Target:
        """The same with its own options (name -> value); raises RequestError for values that are impossible."""
        ...

    def stand_in(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> bytes:
        """The ONNX file that the artifact is made from, where that is its proof."""
        ...

    def lower(self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage) -> LoweredModel:
        """The graph with `stage` of the preprocessing in front, for this target's engine.

        Raises MissingDependencyError naming `extra`, or RequestError where this target cannot do what is asked.
        """
        ...


class BaseTarget:
    """What most targets share: see `Target`."""

    aliases: tuple[str, ...] = ()
    refused: ClassVar[dict[Precision | PreprocessStage, str]] = {}
    batches: Literal["one", "fixed", "any"] = "any"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    proof: Literal["engine", "reference", "graph"] = "engine"
    reference: str | None = None
    options: tuple[TargetOption, ...] = ()

    def configured(self, values: Mapping[str, Any]) -> Any:
        """See `Target`: there is nothing to configure."""
        return self

    def refuse(self, stage: PreprocessStage, batch: int | None) -> None:
        """Raise the refusal of what the target does not offer in any precision."""
        if (refused := unsupported_error(cast(Target, self), None, stage, batch)) is not None:
            raise refused

    def stand_in(
        self, graph: Graph, preprocess: Preprocess, stage: PreprocessStage, precision: Precision
    ) -> bytes:
        """See `Target`: its own engine or a reference is the proof."""
        raise NotImplementedError


def input_for_target(given: TensorSpec, target: Target) -> TensorSpec:
    """The input as the target's engine takes it."""
    if given.layout == target.layout or given.dtype != "float32":
        return given
    images, channels, *sides = given.shape
    return replace(given, shape=(images, *sides, channels), layout=target.layout)


def unsupported_error(
    target: Target, precision: Precision | None, stage: PreprocessStage, batch: int | None
) -> RequestError | None:
    """The error for what the target does not offer; precision None is any."""
    wanted: tuple[tuple[Precision | PreprocessStage | None, str, str], ...] = (
        (precision, f"in {precision}", ""),
        (stage, f"with --preprocess {stage}", ", or --preprocess normalize and resize before"),
    )
    for what, words, instead in wanted:
        if what is not None and what in target.refused:
            able = [name for name in target_names() if what not in get_target(name).refused]
            cause = f"{target.name} is not made {words}: {target.refused[what]}"
            return RequestError(cause, f"use --target {' or '.join(able)}{instead}")
    if batch != 1 and target.batches == "one":
        return RequestError(
            f"{target.name} files take one picture at a time",
            "leave out --batch and --dynamic-batch",
        )
    if batch is None and target.batches == "fixed":
        cause = f"{target.name} files have a fixed batch, a fixed number of pictures"
        return RequestError(cause, "give --batch N instead of --dynamic-batch")
    return None


def target_names() -> list[str]:
    """Every target there is, by listing this folder."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )


def get_target(name: str) -> Target:
    """The target called `name`, or by one of its aliases. Raises RequestError with the names there are."""
    known = target_names()
    for candidate in [name] if name in known else known:
        target = cast(Target, importlib.import_module(f"{__name__}.{candidate}.target").TARGET)
        if name in (target.name, *target.aliases):
            return target
    raise RequestError(
        f"no target is called {name!r}",
        f"use one of {', '.join(known)} or all (nearest: {nearest_name(name, known)})",
    )
