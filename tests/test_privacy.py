"""The telemetry of libraries is off, unless the user has turned it on."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.module_graph import ROOT, list_modules
from tinyvit import privacy

VARIABLES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED")

PRINT_VARIABLES = f"""
import os, tinyvit
print(*(os.environ[name] for name in {VARIABLES!r}))
"""

FAKE_OPENVINO = """
try:
    import openvino_telemetry
except ImportError:
    reports = False
else:
    reports = True
"""


def run_python(code: str, **variables: str) -> list[str]:
    """Run code in a new process with exactly these of `VARIABLES`, and return the printed words."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    process = subprocess.run(
        [sys.executable, "-c", code], env=inherited | variables, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_importing_the_package_turns_off_telemetry() -> None:
    assert run_python(PRINT_VARIABLES) == ["1", "1", "0"]


def test_an_empty_variable_is_no_choice() -> None:
    assert run_python(PRINT_VARIABLES, ORT_DISABLE_TELEMETRY="") == ["1", "1", "0"]


def test_a_setting_of_the_user_wins() -> None:
    chosen = {
        "ORT_DISABLE_TELEMETRY": "0",
        "HF_HUB_DISABLE_TELEMETRY": "no",
        "RAY_USAGE_STATS_ENABLED": "1",
    }
    assert run_python(PRINT_VARIABLES, **chosen) == ["0", "no", "1"]


@pytest.mark.parametrize(("chosen", "call_count"), [("", 1), ("0", 0)])
def test_an_imported_onnxruntime_is_told_to_stop(
    chosen: str, call_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    onnxruntime = ModuleType("onnxruntime")
    monkeypatch.setattr(
        onnxruntime, "disable_telemetry_events", lambda: calls.append("stopped"), raising=False
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", chosen)
    privacy.disable_telemetry()
    assert len(calls) == call_count


def test_an_old_onnxruntime_has_nothing_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    privacy.disable_telemetry()


@pytest.fixture
def fake_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, for packages "openvino" and "openvino_telemetry" that send nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    (tmp_path / "openvino_telemetry.py").touch()
    (tmp_path / "importing_telemetry.py").write_text(FAKE_OPENVINO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "importing_telemetry", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("consent", "reports"), [(None, False), ("1", True), ("1\n", True), ("0", False), ("", False)]
)
def test_openvino_reports_only_with_the_consent_of_the_user(
    fake_openvino: Path, consent: str | None, reports: bool
) -> None:
    if consent is not None:
        (fake_openvino / "intel").mkdir()
        (fake_openvino / "intel" / "openvino_telemetry").write_text(consent)
    with privacy.hide_openvino_telemetry():
        module = importlib.import_module("importing_telemetry")
    assert module.reports is reports


def test_the_package_is_only_hidden_while_openvino_is_imported(fake_openvino: Path) -> None:
    with pytest.raises(ImportError, match="nothing"), privacy.hide_openvino_telemetry():
        raise ImportError("nothing")
    importlib.import_module("openvino_telemetry")


def test_a_consent_folder_that_is_a_file_is_no_consent(fake_openvino: Path) -> None:
    (fake_openvino / "intel").write_text("1")
    with privacy.hide_openvino_telemetry():
        assert importlib.import_module("importing_telemetry").reports is False


def test_a_named_pipe_is_no_consent(fake_openvino: Path) -> None:
    (fake_openvino / "intel").mkdir()
    os.mkfifo(fake_openvino / "intel" / "openvino_telemetry")
    with privacy.hide_openvino_telemetry():
        assert importlib.import_module("importing_telemetry").reports is False


def test_commands_run_without_a_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", find_none)
    with privacy.use_temporary_caches():
        assert "MPLCONFIGDIR" not in os.environ


def test_caches_are_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/chosen/by/the/user")
    with privacy.use_temporary_caches():
        folder = Path(os.environ["MPLCONFIGDIR"])
        assert folder.is_relative_to(tmp_path)
        assert not list(folder.parent.iterdir())  # A library creates its folder when it needs it.
        folder.mkdir(parents=True)
        (folder / "fontlist.json").touch()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/chosen/by/the/user"
    assert not list(tmp_path.iterdir())
    assert "MPLCONFIGDIR" not in os.environ
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/chosen/by/the/user"


def test_no_module_is_outside_the_package_that_turns_off_telemetry() -> None:
    """The import of any module of tinyvit runs `tinyvit/__init__.py` first."""
    assert all(name.split(".")[0] == "tinyvit" for name in list_modules())
    scripts = [*(ROOT / "examples").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]
    assert len(scripts) > 5
    for script in scripts:
        text = script.read_text()
        if "import onnxruntime" in text:
            assert text.index("from tinyvit import") < text.index("import onnxruntime"), script


def test_programs_in_other_languages_turn_off_telemetry() -> None:
    """onnxruntime-web, the other binding in examples/, is WebAssembly, which has no telemetry."""
    program = (ROOT / "examples" / "cpp" / "classify_onnxruntime.cpp").read_text()
    main = program[program.index("int main") :]
    assert main.index('setenv("ORT_DISABLE_TELEMETRY", "1"') < main.index("run_program(")
    assert "Ort::Session" not in main
