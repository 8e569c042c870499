"""The study measures earlier and present code in turns, and leaves no earlier code behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.module_graph import ROOT
from tests.helpers.recorded_progress import RecordedProgress
from tests.helpers.records import DESK
from tinyvit.bench import machine
from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.labels import Label
from tinyvit.studies.before_after import __main__ as command
from tinyvit.studies.before_after import inputs as inputs_module
from tinyvit.studies.before_after.arguments import State
from tinyvit.studies.before_after.builds import build_cpp, build_web_page
from tinyvit.studies.before_after.history import open_history, run_git
from tinyvit.studies.before_after.inputs import QUICK, Inputs, Plan, make_photograph
from tinyvit.studies.before_after.measurement import Measurement, read_output, run_measurement
from tinyvit.studies.before_after.page import (
    BeforeAfterRecord,
    QuantityResult,
    RowResult,
    format_page,
    make_record,
    read_rows,
)
from tinyvit.studies.before_after.rows import ROWS, Quantity, Row
from tinyvit.studies.before_after.taking_turns import FAILED, StudyOptions, measure_rows
from tinyvit.studies.scaling import generated_pictures

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs process groups"),
]

PROGRAM = """\
import json, os, sys
import tinyvit
with open(sys.argv[1], "a") as journal:
    print(tinyvit.SPEED, os.environ["OMP_NUM_THREADS"], file=journal)
print("a line of an engine")
print(json.dumps({"ms": tinyvit.SPEED, "package": tinyvit.__file__}))
"""
RESULT = RowResult(
    "fast",
    "it is faster",
    "2026-01-02T03:04:05+00:00",
    "a" * 40,
    "b" * 10,
    commits=("c" * 40,),
    quantities=(QuantityResult("time, ms", 1, (10.0, 12.0, 8.0), (5.0, 4.0, 6.0)),),
    warnings=("other processes ran",),
    seconds=90,
)
MEASUREMENT = Measurement("program.py", Path("/tree"), (), ("ms",), 1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two commits, the second of which halves a number."""
    root = tmp_path / "repository"
    package = root / "src" / "tinyvit"
    package.mkdir(parents=True)
    run_git(root, "init", "--quiet")
    for speed in (10, 5):
        (package / "__init__.py").write_text(f"SPEED = {speed}\n")
        run_git(root, "add", "src/tinyvit/__init__.py")
        names = (
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@example.com",
            "-c",
            "commit.gpgsign=no",
        )
        run_git(root, *names, "commit", "--quiet", "-m", f"speed {speed}")
    return root


def make_row(tmp_path: Path, program: str = PROGRAM, commits: tuple[str, ...] = ("HEAD",)) -> Row:
    """Make a row whose program is in a file, and appends to a journal."""
    path = tmp_path / "program.py"
    path.write_text(program)
    quantities = (Quantity("ms", "time, ms", 1),)
    arguments = [str(tmp_path / "journal")]
    return Row(
        "fast", "it is faster", commits, quantities, str(path), lambda *_: arguments, threads=3
    )


def measure(repository: Path, *rows: Row, rounds: int | None = None) -> list[RowResult]:
    """Measure rows in a repository, and check that no earlier state is left."""
    results: list[RowResult] = []
    options = StudyOptions(repository, QUICK, rounds=rounds)
    try:
        measure_rows(rows, options, RecordedProgress(), results.append)
    finally:
        assert list_trees(repository) == [repository]
    return results


def list_trees(repository: Path) -> list[Path]:
    lines = run_git(repository, "worktree", "list", "--porcelain").splitlines()
    return [Path(line.split(maxsplit=1)[1]) for line in lines if line.startswith("worktree ")]


def test_states_take_turns_in_both_orders(repository: Path, tmp_path: Path) -> None:
    (result,) = measure(repository, make_row(tmp_path), rounds=3)
    (quantity,) = result.quantities
    assert (quantity.before, quantity.after) == ((10, 10, 10), (5, 5, 5))
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [10, 5, 5, 10, 10, 5]
    assert {line.split()[1] for line in lines} == {"3"}
    assert result.before_commit == run_git(repository, "rev-parse", "HEAD^")
    assert result.after_state == run_git(repository, "rev-parse", "HEAD")[:10]
    assert result.note == ""


def test_the_present_files_are_measured_and_named(repository: Path, tmp_path: Path) -> None:
    (repository / "src" / "tinyvit" / "__init__.py").write_text("SPEED = 2\n")
    (result,) = measure(repository, make_row(tmp_path), rounds=1)
    assert result.quantities[0].after == (2,)
    assert result.after_state.endswith(" with changes")


def test_the_state_before_a_change_can_be_named(repository: Path, tmp_path: Path) -> None:
    row = replace(make_row(tmp_path, commits=()), before="HEAD")
    (result,) = measure(repository, row, rounds=1)
    assert result.quantities[0].before == (5,)


def test_a_row_without_its_tool_is_not_run(repository: Path, tmp_path: Path) -> None:
    def need_tool(inputs: Inputs, state: State) -> list[str]:
        raise MissingDependencyError("cmake is not installed", "install cmake")

    row = make_row(tmp_path)
    results = measure(repository, replace(row, make_arguments=need_tool), row, rounds=1)
    assert results[0].note == "not run: cmake is not installed: install cmake"
    assert results[0].quantities == ()
    assert results[1].quantities


def test_a_failed_program_does_not_end_the_study(repository: Path, tmp_path: Path) -> None:
    first = make_row(tmp_path, "raise SystemExit('error: no memory')")
    other = tmp_path / "other"
    other.mkdir()
    results = measure(repository, first, make_row(other), rounds=1)
    assert results[0].note == f"{FAILED}program.py failed: no memory"
    assert results[1].quantities


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_state_is_left_after_an_error(
    repository: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    def stop(inputs: Inputs, state: State) -> list[str]:
        assert len(list_trees(repository)) == 2
        raise error

    with pytest.raises(error):
        measure(repository, replace(make_row(tmp_path), make_arguments=stop))


WAITING = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "w") as journal:
    print(child.pid, file=journal)
time.sleep(600)
"""
INTERRUPTED = """\
import sys
from pathlib import Path
from tinyvit.cli import run_guarded
from tinyvit.progress import NullProgress
from tinyvit.studies.before_after.inputs import QUICK
from tinyvit.studies.before_after.rows import Row
from tinyvit.studies.before_after.taking_turns import StudyOptions, measure_rows
root, program, journal = sys.argv[1:]
row = Row("slow", "", ("HEAD",), (), program, lambda *_: [journal])
def run():
    measure_rows([row], StudyOptions(Path(root), QUICK), NullProgress(), print)
    return 0
sys.exit(run_guarded(run))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_and_removes_the_state(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    program, journal = tmp_path / "waiting.py", tmp_path / "journal"
    program.write_text(WAITING)
    words = [sys.executable, "-c", INTERRUPTED, repository, program, journal]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        wait_until(lambda: journal.exists() and journal.read_text().endswith("\n"))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (1, 143)
    assert errors.rstrip().endswith(b": nothing was left behind")
    assert list_trees(repository) == [repository]
    child = int(journal.read_text())
    wait_until(lambda: not is_running(child))


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Return whether a process exists that is no zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_shallow_clone_is_refused(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "--quiet", "--depth", "1", repository.as_uri(), str(clone))
    with pytest.raises(RequestError, match="it is shallow: run git fetch --unshallow"):
        measure(clone, make_row(tmp_path))


def test_a_missing_commit_is_an_error(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not have the commit 1234567890\\^: clone the"):
        measure(repository, make_row(tmp_path, commits=("1234567890",)))


def test_a_folder_that_is_no_clone_is_refused(repository: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, repository / "src"):
        with (
            pytest.raises(RequestError, match="is not a clone of the project"),
            open_history(folder),
        ):
            pass


def test_without_git_nothing_is_measured(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="git is not installed"), open_history(ROOT):
        pass


def test_a_repository_named_by_a_hook_is_not_used(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    assert run_git(repository, "log", "--format=%s").splitlines() == ["speed 5", "speed 10"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (b"", "no JSON object"),
        (b"no number", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"[" * 60_000, "no JSON object"),
        (b"\xff\xfe", "no JSON object"),
        (b'{"s": 1}', "no number ms"),
        (b'{"ms": "1"}', "no number ms"),
        (b'{"ms": true}', "no number ms"),
        (b'{"ms": NaN}', "an impossible number ms"),
        (b'{"ms": Infinity}', "an impossible number ms"),
        (b'{"ms": 1e300}', "an impossible number ms"),
        (b'{"ms": %s}' % (b"9" * 4000), "an impossible number ms"),
        (b'{"ms": 0}', "an impossible number ms"),
        (b'{"ms": -1}', "an impossible number ms"),
        (b'{"ms": 1, "package": "/other/src/tinyvit/__init__.py"}', "from another folder"),
        (b'{"ms": 1, "package": 3}', "from another folder"),
        (b'{"ms": 1, "package": "\\u0000"}', "from another folder"),
    ],
)
def test_what_is_no_measurement_is_refused(output: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_output(output, MEASUREMENT)


def test_the_last_line_is_the_measurement() -> None:
    output = b'\x00 loading\n{"ms": 1}\n{"ms": 2.5, "package": "/tree/src/tinyvit/__init__.py"}\n'
    assert read_output(output, MEASUREMENT) == {"ms": 2.5}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("while True: print('x' * 1000)", "failed: it printed more than 65536 bytes"),
        ("import time; time.sleep(600)", "failed: it took more than 3 s"),
        ("import os; os._exit(7)", "failed: exit code 7"),
    ],
)
def test_a_program_without_end_is_ended(tmp_path: Path, program: str, message: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    with pytest.raises(ArtifactError, match=message):
        run_measurement(replace(MEASUREMENT, program=str(path)), limit_s=3)


def test_the_page_has_medians_and_ratios() -> None:
    missing = RowResult("cpp", "C++", RESULT.date, "d" * 40, "b" * 10, note="not run: no cmake")
    record = BeforeAfterRecord(RESULT.date, DESK, (RESULT, missing))
    page = "\n".join(format_page(record))
    assert "AMD EPYC (AVX2), 2 cores, 16 GiB; 2026-01-02T03:04:05+00:00; tinyvit-edge" in page
    assert "| it is faster | time, ms | 10.0 | 5.0 | 0.50 (0.33 to 0.75) |" in page
    assert "| C++ | not run: no cmake |  |  |  |" in page
    assert "| fast | cccccccccc | aaaaaaaaaa | bbbbbbbbbb | 3 | 2026-01-02 03:04 | 1.5 |" in page
    assert "- fast: other processes ran" in page
    assert "nothing on this page is a result" not in page


def test_a_record_is_read_again() -> None:
    record = BeforeAfterRecord(RESULT.date, DESK, (RESULT,))
    data = json.loads(json.dumps(make_record(record)))
    assert "name" not in data["device"]
    assert read_rows(data, DESK, is_quick=False) == [RESULT]
    assert read_rows(data, DESK, is_quick=True) == []
    assert read_rows(data, replace(DESK, cpu="other"), is_quick=False) == []


@pytest.fixture
def run_command(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Run the command with two rows in the small repository."""
    row = make_row(tmp_path)
    rows = (row, replace(row, name="faster"))
    monkeypatch.setattr(command, "ROWS", rows)
    monkeypatch.setattr(command, "ROOT", repository)
    monkeypatch.setattr(machine, "read_device_info", lambda: DESK)
    return lambda *words: command.main([*words, "-o", str(tmp_path / "results")])


def test_the_command_keeps_rows_that_are_not_measured_again(
    run_command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "results" / "x86-64-avx2-before-after.md"
    assert run_command("--rows", "fast", "--rounds", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert run_command("--rows", "faster", "--rounds", "2") == 0
    data = json.loads(page.with_suffix(".json").read_text())
    rounds = {row["name"]: len(row["quantities"][0]["before"]) for row in data["rows"]}
    assert rounds == {"fast": 1, "faster": 2}
    assert page.read_text().count("| it is faster | time, ms | 10.0 | 5.0 | 0.50") == 2


def test_the_command_fails_if_a_measurement_fails(
    run_command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "program.py").write_text("print('nothing')")
    assert run_command("--quick", "--rows", "fast") == 1
    assert "fast: failed: program.py printed no JSON object" in capsys.readouterr().err


def test_another_file_is_no_record(
    run_command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    path = tmp_path / "results" / "x86-64-avx2-before-after.json"
    path.write_text(json.dumps({"quick": False, "device": {"cpu": DESK.cpu}}))
    assert run_command() == 1
    assert "is not a record of this study" in capsys.readouterr().err


def test_each_row_names_a_program_and_commits() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    programs = ROOT / "studies" / "before_after" / "programs"
    for row in ROWS:
        assert (programs / row.program).is_file()
        assert all(len(commit) == 40 for commit in (*row.commits, row.before) if commit)
        assert row.earlier_commit


def test_a_change_states_the_sizes() -> None:
    (row,) = [row for row in ROWS if row.name == "calibration"]
    assert row.describe(Plan()).endswith(" of them: 2,000 pictures")
    assert row.describe(QUICK).endswith(" of them: 40 pictures")
    assert "{" not in "".join(row.describe(QUICK) for row in ROWS)


def test_the_commits_are_in_the_history() -> None:
    try:
        is_shallow = run_git(ROOT, "rev-parse", "--is-shallow-repository") == "true"
    except RequestError:
        pytest.skip("not a clone")
    if is_shallow:
        pytest.skip("a shallow clone")
    for row in ROWS:
        for commit in filter(None, (*row.commits, row.before)):
            run_git(ROOT, "merge-base", "--is-ancestor", commit, "HEAD")


def test_a_photograph_is_smooth_and_its_file_has_a_usual_size(tmp_path: Path) -> None:
    photographs = [make_photograph((400, 400), seed) for seed in (0, 0, 1)]
    first, again, other = (np.asarray(photograph, np.float32) for photograph in photographs)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    power = np.abs(np.fft.fft(first.mean(axis=2), axis=1)).mean(axis=0)
    assert power[1:5].mean() > 20 * power[100:200].mean()
    photographs[0].save(tmp_path / "photograph.jpg", quality=90)
    assert 25_000 < (tmp_path / "photograph.jpg").stat().st_size < 75_000


def make_inputs(tmp_path: Path, plan: Plan = QUICK, has_data: bool = True) -> Inputs:
    """Make the inputs with data of two classes of three images each."""
    data = tmp_path / "data"
    for name in ("cat", "dog"):
        (data / name).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (8, 8)).save(data / name / f"{index}.png")
    folder = tmp_path / "before-after-inputs"
    folder.mkdir()
    return Inputs(folder, plan, (data, data) if has_data else (None, None))


def test_validation_images_are_of_all_classes(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, replace(QUICK, validation_pictures=2))
    names = [path.parent.name for path in sorted(inputs.sample_validation().glob("*/*"))]
    assert names == ["cat", "dog"]


def test_validation_needs_enough_images(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, replace(QUICK, validation_pictures=7))
    with pytest.raises(RequestError, match="has fewer than 7 images"):
        inputs.sample_validation()


def test_without_data_an_export_is_not_measured(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, has_data=False)
    with pytest.raises(RequestError, match="needs labeled photographs: give --calib-data DIR"):
        inputs.sample_validation()


def test_names_share_few_files_and_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(inputs_module, "_MEMORY_FOLDER", memory)
    monkeypatch.setattr(generated_pictures, "_LINKS_OF_A_FILE", 3)
    inputs = make_inputs(tmp_path)
    monkeypatch.setattr(inputs, "_read_labels", lambda: (Label("cat"), Label("dog")))
    paths = sorted(inputs.make_names(10).glob("*/*.jpg"))
    assert len(paths) == 10
    assert len({path.stat().st_ino for path in paths}) == 4
    assert all(path.is_relative_to(memory) for path in paths)
    inputs.remove_names()
    assert list(memory.iterdir()) == []


def test_cpp_needs_cmake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="cmake is not installed"):
        build_cpp(ROOT, tmp_path / "build")


def test_the_web_page_needs_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright", reason="pip install playwright")
    for name in ("npm", "chromium"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="run npm ci in examples/web"):
        build_web_page(ROOT, tmp_path, tmp_path / "build", [])


def run_program(name: str, quantities: tuple[str, ...], *arguments: object) -> dict[str, float]:
    """Run a program of the study with the present code."""
    words = tuple(map(str, arguments))
    return run_measurement(Measurement(name, ROOT, words, quantities, 1))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_command_has_a_time_and_a_memory() -> None:
    costs = run_program("measure_command.py", ("seconds", "mib"), "list")
    assert 1 < costs["mib"] < 1000


def test_a_failed_command_is_no_measurement() -> None:
    with pytest.raises(ArtifactError, match=r"measure_command\.py failed"):
        run_program("measure_command.py", ("seconds",), "no-command")


def test_the_times_of_a_cpp_program_are_read(tmp_path: Path) -> None:
    program = tmp_path / "program"
    line = "decoding 1.50 ms, resizing and network 2.25 ms (3 runs)"
    program.write_text(f"#!/bin/sh\necho ' 99.00% cat'\necho '{line}'\n")
    program.chmod(0o755)
    times = run_program("measure_cpp.py", ("total_ms", "decoding_ms"), program)
    assert times == {"total_ms": 3.75, "decoding_ms": 1.5}


def test_the_times_of_a_web_page_are_read(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    photograph = {"name": "large.jpg", "decoding_ms": 84, "network_ms": 52}
    output = json.dumps({"first_image_ms": 86, "photographs": [photograph]})
    script.write_text(f"import sys\nassert sys.argv[1:] == ['a', '--json']\nprint({output!r})")
    times = run_program("measure_web.py", ("decoding_ms", "first_image_ms"), script, "a")
    assert times == {"decoding_ms": 84, "first_image_ms": 86}
