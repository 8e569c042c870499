"""Libraries are quiet inside the context managers, and as before afterwards."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from tinyvit.processes.output_capture import (
    quiet_loggers,
    silence_file_descriptors,
    silence_libraries,
)

LOGGER = "noisy.library"


def make_noise() -> None:
    logging.getLogger(LOGGER).warning("retrying")
    logging.getLogger(LOGGER).error("broken")
    warnings.warn("old", stacklevel=1)


def test_loggers_and_warnings_are_quiet_only_inside(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with quiet_loggers(LOGGER):
            make_noise()
        assert [record.message for record in caplog.records] == ["broken"]
        assert shown == []
        with pytest.raises(KeyError), quiet_loggers(LOGGER):
            raise KeyError
        make_noise()
    assert [record.message for record in caplog.records] == ["broken", "retrying", "broken"]
    assert (len(shown), logger.level) == (1, logging.INFO)


def test_libraries_neither_print_nor_keep_their_logging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with silence_libraries(LOGGER):
        print("progress")
        print("progress", file=sys.stderr)
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
    print("after")
    assert capsys.readouterr() == ("after\n", "")
    assert (root.handlers, root.level) == (handlers, level)


def test_native_output_is_discarded_only_inside(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with silence_file_descriptors():
        os.write(1, b"native output\n")
        os.write(2, b"native error\n")
    os.write(1, b"after\n")
    assert capfd.readouterr() == ("before\nafter\n", "")
