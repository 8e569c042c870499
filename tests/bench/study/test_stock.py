import pytest

from tinyvit.bench import machine, peers
from tinyvit.bench.study import stock

pytest.importorskip("torch")


def test_the_pair_is_one_network_and_the_table_is_printed(capsys):
    if not _has_timm():
        pytest.skip("needs timm and torchvision, which are for this comparison only")
    assert stock.main(["--variants", "tiny_vit_5m_224", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| tiny_vit_5m_224 |") == 2


def _has_timm() -> bool:
    import importlib.util

    return importlib.util.find_spec("timm") is not None


def test_missing_timm_says_what_to_install(monkeypatch):
    import sys

    from tinyvit.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="pip install timm"):
        peers.import_timm()


def test_the_base_install_is_told_what_to_install_before_anything_is_printed(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    assert stock.main(["--variants", "tiny_vit_5m_224"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: torch is not installed: pip install 'tinyvit-edge[export]'\n"


def test_machine_facts_are_one_line():
    assert "\n" not in machine.cpu_facts()
    assert "cores" in machine.cpu_facts()
