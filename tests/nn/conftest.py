"""Fixtures for the tests of checkpoints."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a value with `torch.save` and returns the path."""

    import torch

    def save_file(content: object, name: str = "weights.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save_file


@pytest.fixture
def foreign_class() -> Iterator[Callable[..., type]]:
    """A function that creates a class in a module that exists only until the end of the test."""
    names: list[str] = []

    def create(module: str, name: str, *bases: type, **attributes: Any) -> type:
        created = type(name, bases, {"__module__": module, "__qualname__": name, **attributes})
        for parent in (module, *(str(part) for part in Path(module.replace(".", "/")).parents)):
            parent = parent.replace("/", ".")
            if parent != "." and parent not in sys.modules:
                sys.modules[parent] = types.ModuleType(parent)
                names.append(parent)
        setattr(sys.modules[module], name, created)
        return created

    yield create
    for name in names:
        del sys.modules[name]
