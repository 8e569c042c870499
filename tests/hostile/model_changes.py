"""Changes of valid ONNX models: fields that contradict each other, and texts for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from tests.helpers.hostile_text import HOSTILE_TEXT

_TEXT = HOSTILE_TEXT.encode("utf-8", "replace").decode("utf-8")


class _Change(Protocol):
    """A function that changes a model."""

    def __call__(self, model: Any) -> None: ...


def _rename_output(model: Any) -> None:
    model.graph.output[0].name = _TEXT
    model.graph.node[-1].output[0] = _TEXT


def _rename_input(model: Any) -> None:
    model.graph.input[0].name = _TEXT


def _rename_operator(model: Any) -> None:
    model.graph.node[0].op_type = _TEXT


def _rename_domain(model: Any) -> None:
    model.graph.node[0].domain = _TEXT


def _make_cycle(model: Any) -> None:
    model.graph.node[0].input[0] = "logits"


def _reverse(model: Any) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _repeat_graph(model: Any) -> None:
    model.graph.node.extend(list(model.graph.node))


def _remove_outputs(model: Any) -> None:
    del model.graph.output[:]


def _add_output(model: Any) -> None:
    model.graph.output.add().name = "t0"


def _add_metadata(model: Any) -> None:
    for _ in range(50_000):
        model.metadata_props.add().key = "x"


def _add_long_metadata(model: Any) -> None:
    model.metadata_props.add(key="tinyvit", value="[" * 1_000_000)


def _add_opsets(model: Any) -> None:
    for number in range(10_000):
        model.opset_import.add(domain=f"d{number}", version=number)


def _set_opset(model: Any, version: int) -> None:
    model.opset_import[0].version = version


def _set_ir(model: Any, version: int) -> None:
    model.ir_version = version


_CHANGES: tuple[_Change, ...] = (
    _rename_output,
    _rename_input,
    _rename_operator,
    _rename_domain,
    _make_cycle,
    _reverse,
    _repeat_graph,
    _remove_outputs,
    _add_output,
    _add_metadata,
    _add_long_metadata,
    _add_opsets,
)


def list_changes() -> Iterator[tuple[str, _Change]]:
    """Yield descriptions, and functions that change a model."""
    for change in _CHANGES:
        yield change.__name__.strip("_"), change  # type: ignore[attr-defined]
    for version in (0, -1, 1, 6, 99, 2**62):
        yield f"opset {version}", partial(_set_opset, version=version)
        yield f"IR version {version}", partial(_set_ir, version=version)
