"""The connection to Ray is closed, and errors of the cluster differ from those of the caller."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tinyvit.bench.ray_cluster import connect_cluster, enter_folder, find_current_folder
from tinyvit.errors import RequestError


class FakeRay(ModuleType):
    """A module that takes the place of `ray`, and records how it is called."""

    def __init__(self, init_error: Exception | None = None) -> None:
        super().__init__("ray")
        self.exceptions = SimpleNamespace(
            RayTaskError=type("RayTaskError", (Exception,), {}),
            RayError=type("RayError", (Exception,), {}),
        )
        self.addresses: list[Any] = []
        self.folders: list[str] = []
        self.shutdown_count = 0
        self._init_error = init_error

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str | None, **_: object) -> None:
        self.addresses.append(address)
        self.folders.append(os.getcwd())
        if self._init_error:
            raise self._init_error

    def shutdown(self) -> None:
        self.shutdown_count += 1


def test_without_an_address_a_new_cluster_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    with connect_cluster("") as module:
        assert module is ray
        assert ray.shutdown_count == 0
    # Ray's documentation: "local" starts a new cluster even if another one is running.
    assert (ray.addresses, ray.shutdown_count) == (["local"], 1)


def test_a_value_error_of_the_caller_is_not_an_error_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ValueError, match="from the block"), connect_cluster(""):
        raise ValueError("from the block")
    assert ray.shutdown_count == 1


def test_an_address_that_ray_refuses_is_an_error_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = FakeRay(ValueError("bad address"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(RequestError, match=r"failed \(bad address\)"), connect_cluster("nowhere"):
        pass
    assert (ray.addresses, ray.shutdown_count) == (["nowhere"], 1)


@pytest.mark.parametrize("init_error", [None, ValueError("bad address")])
def test_workers_do_not_look_for_modules_in_the_current_folder(
    init_error: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray lets workers look for modules in the folder that is the current one during `init`."""
    monkeypatch.chdir(tmp_path)
    ray = FakeRay(init_error)
    monkeypatch.setitem(sys.modules, "ray", ray)
    try:
        with connect_cluster(""):
            assert Path.cwd() == tmp_path
    except RequestError:
        assert init_error is not None
    assert ray.folders == [os.path.abspath(os.sep)]
    assert Path.cwd() == tmp_path


def test_a_worker_enters_the_folder_of_the_command_if_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = find_current_folder()
    assert folder == str(tmp_path)
    monkeypatch.chdir(os.path.abspath(os.sep))
    enter_folder(folder)
    assert Path.cwd() == tmp_path
    enter_folder(str(tmp_path / "missing"))
    enter_folder("")
    assert Path.cwd() == tmp_path
