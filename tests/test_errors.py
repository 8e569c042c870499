"""Errors state a cause and a remedy on one line, in every process."""

from __future__ import annotations

import pickle

from tests.helpers.install_commands import install_command
from tinyvit.errors import ImageError, MissingDependencyError, TinyViTError


def test_cause_and_remedy_become_one_line() -> None:
    error = ImageError("a.jpg is\nnot an image", "replace \t it")
    assert (error.cause, error.remedy) == ("a.jpg is not an image", "replace it")
    assert str(error) == "a.jpg is not an image: replace it"


def test_errors_cross_process_boundaries() -> None:
    error = MissingDependencyError.for_package("torch", extra="export")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is MissingDependencyError
    assert isinstance(copy, TinyViTError)
    assert str(copy) == f"torch is not installed: {install_command('export')}"
    assert (copy.cause, copy.remedy) == (error.cause, error.remedy)
