"""No regular expression of the project takes more than linear time on hostile text.

The test finds every expression in the source code, and searches long texts that repeat the pieces
of the expression itself, which are the texts that make it try most ways to match.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "src/tinyvit": "tinyvit",
    **{name: f"tinyvit.{name}" for name in ("runtimes", "bench", "quant", "export", "distill")},
}
METHODS = ("match", "search", "fullmatch", "sub", "split", "findall", "finditer")

TABLES = {
    "tinyvit.nn.checkpoints.state_dicts.foreign_checkpoints": ("_EXPLANATIONS", "search"),
    "tinyvit.nn.checkpoints.state_dicts.layouts": ("_OFFICIAL_TO_TIMM", "sub"),
    "tinyvit.nn.checkpoints.weight_files": ("_MMPRETRAIN_NAMES", "sub"),
    "tinyvit.nn.checkpoints.tensor_files.foreign_files": ("_TEXT_STARTS", "match"),
    "tinyvit.command_parser": ("_MESSAGES", "fullmatch"),
}
"""Tables whose rows begin with an expression, and how it is used."""

LENGTH_LIMITS = {
    # These see single lines, of which the longer ones are left out.
    "tinyvit.bench.profilers._litert_profile": 1_000,
    "tinyvit.bench.devices.android_runners": 1_000,
    "tinyvit.bench.latency.benchmark_tools": 1_000,
    # Messages of argparse about the user's own command line; longer ones are not matched.
    "tinyvit.command_parser": 500,
    # Lines of TensorRT's builder about a network that tinyvit-export made.
    "tinyvit.export.targets.tensorrt.engine_builder": 4_000,
    # TensorRT's message about a plan, of at most _MAX_REASON_CHARACTERS.
    "tinyvit.runtimes.engines._tensorrt_plan": 500,
    # The charts that matplotlib drew, in which names are at most 60 characters long.
    "tinyvit.bench.report.chart_style": 1_000,
    # Lines and entries of at most MAX_LINE_CHARACTERS.
    "tinyvit.labels.label_lines": 2_000,
    "tinyvit.labels.line_checks": 2_000,
    "tinyvit.labels.label_decorations": 2_000,
    "tinyvit.labels.unknown_keys": 2_000,
    # Names of files and folders, which file systems limit to 255 bytes.
    "tinyvit.data.class_folder_checks": 255,
    "tinyvit.files.staging": 255,
}
"""Largest number of characters that the expressions of a module see; all others see any number."""

LONG = 40_000
"""Length of the text, in characters, that must take less than MAX_SECONDS. An expression whose time
is quadratic takes tens of seconds."""
MAX_SECONDS = 2
SHORT, SUSPICIOUS_SECONDS = 2_000, 0.002
"""Only a text that takes at least this time at the shorter length is tried at the full length."""


class Expression(NamedTuple):
    module: str
    line: int
    pattern: re.Pattern[Any]
    methods: tuple[str, ...]


def find_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "re"
            and node.func.attr in (*METHODS, "compile")
        ):
            yield node


def find_methods(name: str, source: str) -> tuple[str, ...]:
    """Return the methods with which a module uses a compiled expression; all if it exports it."""
    used = tuple(method for method in METHODS if f"{name}.{method}(" in source)
    return used or ("match", "search", "fullmatch")


def find_expressions() -> list[Expression]:
    expressions = []
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "src/tinyvit" and (ROOT / "src" / "tinyvit" / parts[0]).is_symlink():
                continue
            source = file.read_text()
            tree = ast.parse(source)
            assigned = {
                ast.unparse(node.value): ast.unparse(node.targets[0])
                for node in ast.walk(tree)
                if isinstance(node, ast.Assign)
            }
            for call in find_calls(tree):
                name = ".".join([package, *(part for part in parts if part != "__init__")])
                module = importlib.import_module(name)
                assert isinstance(call.func, ast.Attribute)
                argument = ast.unparse(call.args[0])
                if argument == "pattern":  # a loop over one of TABLES
                    assert name in TABLES, f"{name}:{call.lineno}: add its table to TABLES"
                    continue
                namespace = {**vars(module), "re": re}
                if call.func.attr == "compile":
                    pattern = eval(ast.unparse(call), namespace)
                    methods = find_methods(assigned.get(ast.unparse(call), ""), source)
                else:
                    pattern, methods = re.compile(eval(argument, namespace)), (call.func.attr,)
                expressions.append(Expression(name, call.lineno, pattern, methods))
    for name, (table, method) in TABLES.items():
        rows = getattr(importlib.import_module(name), table)
        expressions += [Expression(name, 0, re.compile(row[0]), (method,)) for row in rows]
    return expressions


EXPRESSIONS = find_expressions()


def list_texts(pattern: re.Pattern[Any], length: int) -> Iterator[Any]:
    """Yield texts that repeat a piece of an expression, after another piece, before a wrong end."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin1")
    words = re.findall(r"[A-Za-z_]{2,}[^\\()\[\]{}|?*+.]*", text)
    signs = sorted({*re.sub(r"\\.", "", text), *" a0\t\"',:.-"})
    pairs = ["".join(pair) for pair in itertools.product(' a0",', ' a0":-.')]
    pieces = [*signs, *pairs, *words, *(f"[{word}" for word in words)]
    for start, piece in itertools.product(["", "a", '"', "0", "[", *words[:4]], pieces):
        content = start + piece * (length // len(piece)) + "\1"
        yield content if isinstance(pattern.pattern, str) else content.encode("utf-8")


def measure_seconds(pattern: re.Pattern[Any], method: str, text: Any) -> float:
    start = time.process_time()
    if method == "sub":
        pattern.sub(text[:0], text)
    elif method == "finditer":
        list(pattern.finditer(text))
    else:
        getattr(pattern, method)(text)
    return time.process_time() - start


def test_the_expressions_are_found() -> None:
    modules = {expression.module for expression in EXPRESSIONS}
    assert len(EXPRESSIONS) > 100
    assert {
        "tinyvit.labels.literals",
        "tinyvit.nn.checkpoints.preprocessing.transform_kinds",
        "tinyvit.bench.devices.adb",
    } < modules
    # Names of downloads, model cards and a message of TensorRT; the content of artifacts is read
    # without expressions.
    assert {module for module in modules if module.startswith("tinyvit.runtimes")} == {
        "tinyvit.runtimes.commands.card_metadata",
        "tinyvit.runtimes.commands.image_download",
        "tinyvit.runtimes.engines._tensorrt_plan",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "expression", EXPRESSIONS, ids=[f"{found.module}:{found.line}" for found in EXPRESSIONS]
)
def test_no_expression_takes_more_than_linear_time(expression: Expression) -> None:
    length = LENGTH_LIMITS.get(expression.module, LONG)
    for method in expression.methods:
        texts = zip(list_texts(expression.pattern, SHORT), list_texts(expression.pattern, length))
        for short, text in texts:
            if measure_seconds(expression.pattern, method, short) >= SUSPICIOUS_SECONDS:
                seconds = measure_seconds(expression.pattern, method, text)
                assert seconds < MAX_SECONDS, f"{method} {expression.pattern.pattern} {text[:30]!r}"
