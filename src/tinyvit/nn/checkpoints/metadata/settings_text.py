"""Reading of settings in texts: Python configurations, printed transforms, JSON, and YAML.

Nothing in a text is executed. Literals, simple arithmetic, variables that the text assigns,
`dict(...)`, and the names and arguments of other calls are read from Python code. An unknown name
becomes a text, and all other expressions become None.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from typing import Any

from tinyvit.nn.checkpoints.metadata.yaml_settings import parse_yaml_settings
from tinyvit.serialization import parse_json

CLASS_KEY = "_target_"
"""Key of the name of a class in a dict that describes an object, as in Hydra."""

MAX_SETTINGS_LENGTH = 256 * 1024
"""Texts with more characters are not read."""

_MAX_DEPTH = 24
"""Expressions that are nested deeper in a text become None."""

_POSITIONAL = {"Normalize": ("mean", "std")}
"""Maps the name of a class to the names of its positional arguments."""

_OTHER_POSITIONAL = ("size", "interpolation")
"""Names of the positional arguments of all other classes."""

_ARRAY_FUNCTIONS = ("tensor", "array", "list", "tuple", "Size")
"""Functions of one argument, such as `array([0.5, 0.5])`. The argument is taken for their value."""

_MAX_INTEGER_BITS = 1024
"""Larger integers become None. Python cannot write those of more than 4300 digits as text."""

_CHANNELS = 3
"""The only number by which a list may be multiplied, as in "[127.5] * 3"."""

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
}


class TextBudget:
    """Limits the length of all texts that are parsed for one checkpoint, which takes long."""

    def __init__(self) -> None:
        self._remaining_length = 2 * MAX_SETTINGS_LENGTH

    def allows(self, text: str) -> bool:
        """Return whether a text may be parsed, and count its length if so.

        Args:
            text: The text.
        """
        if len(text) > self._remaining_length:
            return False
        self._remaining_length -= len(text)
        return True


def parse_settings_text(text: str) -> dict[str, Any] | None:
    """Parse settings that are stored as text.

    Args:
        text: JSON; a Python file of assignments, as MMEngine stores it; a Python literal; the
            printed form of torchvision's Compose; or YAML.

    Returns:
        The settings; None if the text has none of these forms.
    """
    if len(text) > MAX_SETTINGS_LENGTH:
        return None
    stripped = text.strip()
    if stripped.startswith("Compose("):
        return {CLASS_KEY: "Compose", "transforms": _parse_printed_transforms(stripped)}
    try:
        content = parse_json(stripped)
    except ValueError:
        content = _parse_python(stripped) or parse_yaml_settings(stripped)
    return content if isinstance(content, dict) and content else None


def parse_call(text: str) -> dict[str, Any] | None:
    """Parse the printed form of an object, such as "Resize(size=256)".

    Args:
        text: The text.

    Returns:
        The arguments by name, and the name of the class under `CLASS_KEY`; None for another text.
    """
    tree = _parse_tree(text.strip()) if len(text) <= MAX_SETTINGS_LENGTH else None
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return None
    value = _Evaluator().evaluate(tree.body[0].value)
    return value if isinstance(value, dict) and CLASS_KEY in value else None


def _parse_printed_transforms(text: str) -> list[Any]:
    """Parse the printed form of Compose, which has one transform in each line."""
    lines = [line.strip().rstrip(",") for line in text.split("\n")[1:]]
    return [parse_call(line) for line in lines if re.match(r"\w+\(.*\)$", line)]


def _parse_python(text: str) -> dict[str, Any]:
    """Parse a file of assignments, or a dict; return {} for something else."""
    tree = _parse_tree(text)
    statements = tree.body if tree is not None else []
    evaluator = _Evaluator()
    if len(statements) == 1 and isinstance(statements[0], ast.Expr):
        value = evaluator.evaluate(statements[0].value)
        return value if isinstance(value, dict) else {}
    for statement in statements:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    evaluator.variables[target.id] = evaluator.evaluate(statement.value)
    return evaluator.variables


def _parse_tree(text: str) -> ast.Module | None:
    """Parse Python code without running it; return None if it is not valid."""
    try:
        with warnings.catch_warnings():
            # Python warns of code that is valid but unusual, such as an unknown escape sequence.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


class _Evaluator:
    """Computes the values of expressions from literals and from earlier assignments.

    Attributes:
        variables: The values that were assigned, by name.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}

    def evaluate(self, node: ast.expr, depth: int = 0) -> Any:
        """Return the value of an expression; None if it cannot be read."""
        if depth > _MAX_DEPTH:
            return None
        if isinstance(node, ast.Constant):
            return _read_constant(node.value)
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self.evaluate(element, depth + 1) for element in node.elts]
        if isinstance(node, ast.Dict):
            # In a dict such as {**defaults}, the key is None.
            keys = [key and self.evaluate(key, depth + 1) for key in node.keys]
            values = [self.evaluate(value, depth + 1) for value in node.values]
            return {str(key): value for key, value in zip(keys, values) if key is not None}
        if isinstance(node, ast.Call):
            return self._evaluate_call(node, depth)
        if isinstance(node, (ast.UnaryOp, ast.BinOp)):
            return self._evaluate_arithmetic(node, depth)
        return self._evaluate_name(node)

    def _evaluate_call(self, node: ast.Call, depth: int) -> Any:
        """Return what a call describes: a dict, an array, or an object as a dict."""
        name = _read_dotted_name(node.func)
        keywords = {
            keyword.arg: self.evaluate(keyword.value, depth + 1)
            for keyword in node.keywords
            if keyword.arg is not None
        }
        if name == "dict":
            return keywords
        args = [self.evaluate(arg, depth + 1) for arg in node.args]
        class_name = name.rpartition(".")[2]
        if class_name in _ARRAY_FUNCTIONS and len(args) == 1:
            return args[0]
        positional = dict(zip(_POSITIONAL.get(class_name, _OTHER_POSITIONAL), args))
        return {CLASS_KEY: name, **positional, **keywords}

    def _evaluate_arithmetic(self, node: ast.UnaryOp | ast.BinOp, depth: int) -> Any:
        """Compute a negative number, an operation on two numbers, or a list of one element times 3.

        Returns:
            The result; None for all other operations.
        """
        if isinstance(node, ast.UnaryOp):
            value = self.evaluate(node.operand, depth + 1)
            is_minus = isinstance(node.op, ast.USub) and type(value) in (int, float)
            return -value if is_minus else None
        operands = (self.evaluate(node.left, depth + 1), self.evaluate(node.right, depth + 1))
        operator = _OPERATORS.get(type(node.op))
        if isinstance(operands[0], list) and operands[1] == _CHANNELS:
            is_repetition = operator is _OPERATORS[ast.Mult] and len(operands[0]) == 1
            return operands[0] * _CHANNELS if is_repetition else None
        if operator is None or not all(type(operand) in (int, float) for operand in operands):
            return None
        try:
            return operator(float(operands[0]), float(operands[1]))
        except (ZeroDivisionError, OverflowError):
            return None

    def _evaluate_name(self, node: ast.expr) -> Any:
        """Return the value that was assigned to a name, else the name itself."""
        name = _read_dotted_name(node)
        return self.variables.get(name, name or None)


def _read_constant(value: object) -> Any:
    """Return a text, a boolean or a number; None for anything else, and for a huge integer."""
    is_huge = isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS
    return value if isinstance(value, (str, int, float)) and not is_huge else None


def _read_dotted_name(node: ast.expr) -> str:
    """Return a name such as "transforms.Resize"; "" for another expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
