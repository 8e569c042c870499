"""No hostile file crashes, hangs, fills the memory, or is accepted where it must be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.campaign import (
    WHOLE_COUNT,
    choose_few,
    make_table,
    run_campaign,
    run_loader,
    write_table,
)
from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import LOADERS

_FEW = 6
"""Number of crafted files, and of mutations, that each test run tries with a loader."""


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
def test_few_files(tmp_path: Path, loader: Loader) -> None:
    files = choose_few(loader, loader.make_samples(tmp_path), _FEW)
    result = run_loader(loader, files, workers=1)
    assert [f"{file.description}: {reason}" for file, reason in result.failures] == []
    assert result.tried == len(files)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_whole_campaign() -> None:
    """This also writes the table into docs/results/hostile-files.md."""
    results = run_campaign(LOADERS, WHOLE_COUNT)
    write_table(make_table(results))
    assert sum(result.tried for result in results) >= WHOLE_COUNT
    assert [result.loader.name for result in results if result.failures] == []
