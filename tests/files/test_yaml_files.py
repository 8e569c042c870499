"""Tests of the parsing of untrusted YAML."""

from __future__ import annotations

import re
import sys

import pytest

from tests.helpers.install_commands import install_command
from tinyvit.errors import MissingDependencyError
from tinyvit.files.yaml_files import MAX_CHARACTERS, MAX_DEPTH, MAX_EVENTS, YamlValue, parse_yaml

pytest.importorskip("yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("# a comment\n", ""),
        ("a: 1e3\nb: no\nc:\nd: ~\n", {"a": "1e3", "b": "no", "c": "", "d": "~"}),
        ("a: [1, 'x: y', {b: \"c\\n\"}]\n", {"a": ["1", "x: y", {"b": "c\n"}]}),
        ("---\n- a\n- - b\n...\n", ["a", ["b"]]),
        ("1: a\n'2': b\n", {"1": "a", "2": "b"}),
        ("<<: {a: b}\n", {"<<": {"a": "b"}}),
        ("a: !!python/tuple [1]\nb: !!int 2\nc: !unknown d\n", {"a": ["1"], "b": "2", "c": "d"}),
        ("a: !!python/object/apply:os.system ['exit 1']\n", {"a": ["exit 1"]}),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
    ],
)
def test_scalars_stay_strings(text: str, value: YamlValue | None) -> None:
    parsed = parse_yaml(text)
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [b]\n", "line 1 has an anchor"),
        ("a: b\nc: *x\n", "line 2 has an anchor"),
        ("a: &x b\n", "line 1 has an anchor"),
        ("a: b\na: c\n", "the key a occurs twice"),
        ("b: {a: 1, 'a': 2}\n", "the key a occurs twice"),
        ("? [a]\n: b\n", "line 1 has a list or a map as key"),
        ("--- a\n--- b\n", "several documents"),
        ("a: [b\n", "it is not YAML: .* in line 2"),
        ("a: b: c\n", "it is not YAML: .* in line 1"),
        ("a: \0\n", "it is not YAML: unacceptable character"),
        (r'a: "\UFFFFFFFF"', "it is not YAML: .* too large"),
        (r'a: "\U00110000"', "chr.. arg not in range"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than 32 levels"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ("{" * 100_000, "nested deeper than 32 levels"),
        ("- " * 100_000, "nested deeper than 32 levels"),
        ("? " * 100_000, "nested deeper than 32 levels"),
        ("[a: " * 10_000, "nested deeper than 32 levels"),
        ("[" + "a," * MAX_EVENTS + "]", "more than 250000 values"),
        ("a" * (MAX_CHARACTERS + 1), "longer than 1048576 characters"),
    ],
)
def test_other_texts_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("export"))):
        parse_yaml("a: b")
