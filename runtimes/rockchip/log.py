"""Reads the output of rknn-toolkit2: the compiler's table of layers, and errors."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit.processes.python_process import read_last_line

_PROCESSORS = ("NPU", "CPU", "GPU")
_END_OPERATORS = ("InputOperator", "OutputOperator")
"""Operators in the compiler's table that compute nothing."""
_MIN_TABLE_WORDS = 8
"""Least number of words in a row of this table."""
_ERROR_PREFIX = "E "
"""How a line with an error begins in the toolkit's output."""
_COLORS = ("\x1b[0m", "\x1b[1;31m", "\x1b[1;33m")
"""Codes of colors in this output."""
_HARMLESS_ERROR = "Unkown op target: 0"
"""An error that every compilation prints, also one that succeeds."""


@dataclass(frozen=True)
class Layer:
    """A layer of a compiled network.

    Attributes:
        operator: Name of the operator, such as "ConvExGelu".
        processor: "NPU", "CPU" or "GPU".
        name: The compiler's name of the layer, which contains that of a node of the ONNX file.
    """

    operator: str
    processor: str
    name: str


def parse_layers(log: str) -> tuple[Layer, ...]:
    """Find the compiler's table of layers in the toolkit's output.

    A line of the table is, for example, "D RKNN: [11:37:33.763] 22 Transpose FLOAT16 CPU
    (196,128,1,1) (1,128,1,196) 0/0/0 49 Transpose:view_tp".

    Args:
        log: The output, with `verbose`.

    Returns:
        The layers that compute something; empty if there is no table.
    """
    layers = {}
    for line in log.splitlines():
        words = line.split()
        if len(words) < _MIN_TABLE_WORDS or words[:2] != ["D", "RKNN:"]:
            continue
        number, operator, _, processor = words[3:7]
        is_row = number.isdecimal() and processor in _PROCESSORS and ":" in words[-1]
        if is_row and operator not in _END_OPERATORS:
            layers[number] = Layer(operator, processor, words[-1].partition(":")[2])
    return tuple(layers.values())


def find_toolkit_error(log: str) -> str:
    """Return the last error in the toolkit's output, without its colors; "" if there is none.

    Args:
        log: The output. A line of an error begins with "E ".
    """
    text = log
    for color in _COLORS:
        text = text.replace(color, "")
    errors = [line for line in text.splitlines() if line.startswith(_ERROR_PREFIX)]
    known = [line for line in errors if _HARMLESS_ERROR not in line]
    return read_last_line(known[-1].removeprefix(_ERROR_PREFIX), "") if known else ""
