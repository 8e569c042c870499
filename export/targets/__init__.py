"""The targets, one file each: what an artifact for an engine is made with.

Each file imports its SDK inside functions only, and has at module level `TARGET`, an object with the attributes of the
`Target` protocol. A file added here is a new target; nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from tinyvit.errors import RequestError
from tinyvit.manifest import Manifest, Precision, Stage
from tinyvit.placement import Placement
from tinyvit.preprocess import Preprocess
from tinyvit.variants import nearest

if TYPE_CHECKING:
    from tinyvit.export.graph import Graph


class Lowered(Protocol):
    """An artifact in memory, still without its manifest."""

    def save(self, path: Path, manifest: Manifest) -> list[Path]:
        """Write the artifact with this manifest in it; returns the files written, `path` itself last."""
        ...


class Target(Protocol):
    """How one kind of artifact is made.

    tools: the distributions whose versions decide the bytes. placement: how its engine wants int8. refused: the precisions that
    it does not offer, and why.
    """

    name: str
    aliases: tuple[str, ...]
    suffix: str
    extra: str
    tools: tuple[str, ...]
    placement: Placement
    refused: dict[Precision, str]

    def lower(self, graph: Graph, preprocess: Preprocess, stage: Stage) -> Lowered:
        """The graph with `stage` of the preprocessing in front, for this target's engine.

        Raises MissingDependencyError naming `extra`, or RequestError where this target cannot do what is asked.
        """
        ...


def refusal(target: Target, precision: Precision) -> RequestError | None:
    """The error for a precision that the target does not offer."""
    if precision not in target.refused:
        return None
    able = [name for name in names() if precision not in get(name).refused]
    return RequestError(f"{target.name} is not made in {precision}: {target.refused[precision]}", f"use --target {' or '.join(able)}")


def names() -> list[str]:
    """Every target there is, by listing this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get(name: str) -> Target:
    """The target called `name`, or by one of its aliases. Raises RequestError with the names there are."""
    known = names()
    for candidate in [name] if name in known else known:
        target = cast(Target, importlib.import_module(f"{__name__}.{candidate}").TARGET)
        if name in (target.name, *target.aliases):
            return target
    raise RequestError(f"no target is called {name!r}", f"use one of {', '.join(known)} or all (nearest: {nearest(name, known)})")
