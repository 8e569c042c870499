"""Hostile files of the formats whose operators `--coverage` reads without any engine."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.hostile.artifact_commands import check_operators
from tests.hostile.hostile_files import HostileFile, Loader, make_lazy_file
from tests.hostile.loaders import (
    coreml_packages,
    engine_files,
    openvino_files,
    ort_files,
    pte_files,
    qnn_files,
    rknn_files,
)
from tests.hostile.mutations import change_number, make_mutation

_MANY = 700_000
_PORT = '<port id="{}" precision="FP32"><dim>1</dim></port>'
_TEXTS = ("", "-2", "1e9", "9" * 19, "9" * 5000, "\u0663", "0x10", "1_0", "nan", "<dim>1</dim>")


def _wrap(layers: str, edges: str = "") -> str:
    return f'<net name="a"><layers>{layers}</layers><edges>{edges}</edges></net>'


def _layer(number: object, kind: str, body: str) -> str:
    return f'<layer id="{number}" name="l" type="{kind}">{body}</layer>'


def _make_wide_layer(count: int) -> str:
    """Make a Concat of one tensor, many times."""
    source = _layer(0, "Parameter", f"<output>{_PORT.format(0)}</output>")
    ports = "".join(map(_PORT.format, range(count)))
    concat = _layer(1, "Concat", f"<input>{ports}</input><output>{_PORT.format(count)}</output>")
    edge = '<edge from-layer="0" from-port="0" to-layer="1" to-port="{}"/>'
    return _wrap(source + concat, "".join(map(edge.format, range(count))))


def _make_chain(kind: str, count: int) -> str:
    """Make a chain of layers with one input and one output."""
    body = f"<input>{_PORT.format(0)}</input><output>{_PORT.format(1)}</output>"
    layers = (_layer(number, kind, body) for number in range(1, count))
    edge = '<edge from-layer="{}" from-port="1" to-layer="{}" to-port="0"/>'
    edges = "".join(edge.format(number, number + 1) for number in range(count - 1))
    source = _layer(0, "Parameter", f"<output>{_PORT.format(1)}</output>")
    return _wrap(source + "".join(layers), edges)


def _make_long_id(length: int) -> str:
    """Make a layer with a long id and many outputs."""
    ports = "".join(map(_PORT.format, range(100_000)))
    return _wrap(_layer("1" * length, "Split", f"<output>{ports}</output>"))


def _make_size(text: str) -> str:
    port = f'<port id="0" precision="FP32"><dim>{text}</dim></port>'
    return _wrap(_layer(0, "Parameter", f"<output>{port}</output>"))


def _list_openvino() -> Iterator[tuple[str, Callable[[], str]]]:
    for text in _TEXTS:
        yield f"a size {text[:20]!r}", partial(_make_size, text)
    for count in (10, 10_000, 200_000, _MANY):
        yield f"{count} inputs of a layer", partial(_make_wide_layer, count)
        for kind in ("FakeQuantize", "Reshape", "If", "\x01"):
            yield f"a chain of {count} {kind!r}", partial(_make_chain, kind, count)
    yield "65 sizes", lambda: _make_size("</dim><dim>".join("1" * 65))
    yield "a million sizes", lambda: _make_size("</dim><dim>".join("1" * 10**6))
    yield "a size of 50 MB", lambda: _make_size("1" * 50_000_000)
    for body in (
        "<dim>1</dim>",
        "<output><dim>1</dim></output>",
        "<port/>",
        "<input><port/></input>",
    ):
        yield f"a layer with {body}", partial(lambda body: _wrap(_layer(0, "Add", body)), body)
    for kind in ("MatMul", "Convolution", "GroupConvolutionBackpropData"):
        yield f"a {kind} without tensors", partial(_make_chain, kind, 3)
    for length in (1000, 10**6):
        yield f"an id of {length} characters", partial(_make_long_id, length)
    yield "a type of 10 MB", lambda: _make_chain("A" * 10_000_000, 2)
    yield "a type of 120 MB", lambda: _make_chain("A" * 120_000_000, 2)
    yield "a type of 200 MB", lambda: _make_chain("A" * 200_000_000, 2)
    yield "200 nested layers", lambda: _wrap('<layer type="Add">' * 200 + "</layer>" * 200)


def craft_openvino(generator: random.Random) -> Iterator[HostileFile]:
    """Yield models whose .xml is hostile, and those that are hostile to OpenVINO."""
    for description, make in _list_openvino():
        yield make_lazy_file(
            "a.xml", description, lambda make=make: make().encode("utf-8", "replace")
        )
    yield from openvino_files.craft_all(generator)


def mutate_openvino(sample: Path, seed: str) -> HostileFile:
    """Change bytes of an .xml file, or a number in it."""
    return make_mutation(sample, seed, change_number)


def _edit_program(edit: Callable[[Any], Any], folder: Path) -> Path:
    """Write a Core ML package whose main function was changed."""
    return coreml_packages.write_edited(folder, edit)


def _get_operations(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def _repeat_operations(count: int, model: Any) -> None:
    operations = _get_operations(model)
    for _ in range(count):
        operations.add().CopyFrom(operations[-1])


def _repeat_bindings(count: int, model: Any) -> None:
    last = _get_operations(model)[-1]
    argument = last.inputs[sorted(last.inputs)[0]]
    for _ in range(count):
        argument.arguments.add().name = "x"


def _repeat_sizes(count: int, size: int, model: Any) -> None:
    for operation in _get_operations(model):
        dimensions = operation.outputs[0].type.tensorType.dimensions
        for _ in range(count):
            dimensions.add().constant.size = size
        operation.outputs[0].type.tensorType.rank = len(dimensions)


def _nest_blocks(depth: int, model: Any) -> None:
    operation = _get_operations(model)[-1]
    for _ in range(depth):
        operation = operation.blocks.add().operations.add()


def _rename(kind: str, model: Any) -> None:
    for operation in _get_operations(model):
        operation.type = kind


def _drop_inputs(model: Any) -> None:
    for operation in _get_operations(model):
        operation.inputs.clear()


def _drop_main(model: Any) -> None:
    del model.mlProgram.functions["main"]


def _drop_program(model: Any) -> None:
    model.ClearField("mlProgram")


def _list_coreml() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for count in (1000, 50_000, 150_000):
        yield f"{count} operations", partial(_repeat_operations, count)
        yield f"{count} arguments", partial(_repeat_bindings, count)
    for count, size in ((3, 2**64 - 1), (63, 2**63), (65, 1), (100_000, 2)):
        yield f"{count} sizes {size}", partial(_repeat_sizes, count, size)
    for depth in (10, 30):
        yield f"{depth} nested blocks", partial(_nest_blocks, depth)
    for kind in ("", "conv", "matmul", "linear", "const", "quantize", "\x1b[2J", "a" * 10**6):
        yield f"only operations {kind[:20]!r}", partial(_rename, kind)
    yield "no inputs", _drop_inputs
    yield "no main function", _drop_main
    yield "no program", _drop_program


def craft_coreml(generator: random.Random) -> Iterator[HostileFile]:
    """Yield packages whose program is hostile, and those that are hostile to the evaluator."""
    for description, edit in _list_coreml():
        yield HostileFile(description, partial(_edit_program, edit))
    yield from coreml_packages.craft(generator)


def _list_pte() -> Iterator[tuple[str, Callable[[], bytes]]]:
    from tests.helpers.pte_tables import GELU, make_pte, make_xnnpack_part

    part = make_xnnpack_part
    for count in (1, 100, 10_000):
        for calls in (1, 100, 10_000):
            yield (
                f"{calls} calls of {count} nodes",
                lambda count=count, calls=calls: make_pte(part(node_count=count), call_count=calls),
            )
    yield "10,000 values", lambda: make_pte(part(value_count=10_000), call_count=10_000)
    for sizes in ([], [2**32 - 1] * 64, [1] * 65, [1] * 10_000):
        yield f"{len(sizes)} sizes", lambda sizes=sizes: make_pte(part(sizes))
    for kind in (0, 1, 2, 7, GELU, 47, 48, 255):
        yield f"a node of the kind {kind}", lambda kind=kind: make_pte(part(kind=kind))
    for number in (1, 2**31, 2**32 - 1):
        yield f"a value {number}", lambda number=number: make_pte(part(input_id=number))
        yield f"a part {number}", lambda number=number: make_pte(part(), part_index=number)
    for number in (1, -1, -(2**31)):
        yield f"a delegate {number}", lambda number=number: make_pte(part(), call_index=number)
    for kernel in ("aten::bmm", "aten::convolution", "\x1b[2J", "a" * 10_000):
        yield f"an operator {kernel[:20]!r}", lambda kernel=kernel: make_pte(part(), kernel=kernel)
    for length in range(0, 40, 3):
        yield f"a part of {length} bytes", lambda length=length: make_pte(part()[:length])
    for delegate in ("", "VulkanBackend", "\x1b[2J", "a" * 10_000):
        yield f"for {delegate[:20]!r}", lambda delegate=delegate: make_pte(b"", delegate)


def craft_pte(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files whose tables are hostile, and those that are hostile to ExecuTorch."""
    for description, make in _list_pte():
        yield make_lazy_file("a.pte", description, make)
    yield from pte_files.craft(generator)


def _make_loader(
    name: str,
    module: Any,
    craft: Callable[[random.Random], Iterator[HostileFile]],
    mutate_sample: Callable[[Path, str], HostileFile] | None = None,
) -> Loader:
    return Loader(
        f"{name}: coverage",
        check_operators,
        module.make_samples,
        craft,
        mutate_sample=mutate_sample,
    )


LOADERS: Sequence[Loader] = (
    _make_loader("OpenVINO", openvino_files, craft_openvino, mutate_openvino),
    _make_loader("Core ML", coreml_packages, craft_coreml, coreml_packages.mutate_sample),
    _make_loader("ExecuTorch", pte_files, craft_pte, pte_files.mutate_sample),
    dataclasses.replace(
        _make_loader("ORT", ort_files, ort_files.craft_all), memory_bytes=ort_files.MEMORY
    ),
    _make_loader(
        "TensorRT", engine_files, engine_files.craft_with_signed, engine_files.mutate_sample
    ),
    _make_loader("Hexagon", qnn_files, qnn_files.craft, qnn_files.mutate_sample),
    _make_loader("RKNN", rknn_files, rknn_files.craft, rknn_files.mutate_sample),
)
