"""Workflows, forms and documents, which only GitHub and contributors use, are valid."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))
DOCUMENTS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "docs" / "how-to" / "release.md",
    ROOT / "docs" / "explanation" / "architecture.md",
    ROOT / "docs" / "reference" / "glossary.md",
]
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "dependabot": [ROOT / ".github" / "dependabot.yml"],
    "github-issue-forms": FORMS,
    "github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
}
FOLDERS = "bench|distill|docs|examples|export|quant|runtimes|src|studies|tests|.github"
# A path in this repository, as documents and workflows write it: a folder and what follows.
REPOSITORY_PATH = re.compile(rf"(?<![\w./<-])(?:{FOLDERS.replace('.', r'[.]')})/[\w./<>-]*\w[/]?")


def find_program(name: str) -> str:
    """Return the path of a linter installed beside Python, or skip the test."""
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(name, path=search_path)
    if program is None:
        pytest.skip(f"pip install {name}")
    return program


def assert_no_findings(*command: str | Path) -> None:
    """Run a linter, and fail with its output if it exits with an error."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_all_files_are_found() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "distributions.yml", "release.yml"]
    assert [path.name for path in FORMS] == ["bug_report.yml", "feature_request.yml"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_match_the_schema_of_github(schema: str) -> None:
    program = find_program("check-jsonschema")
    assert_no_findings(program, "--builtin-schema", f"vendor.{schema}", *SCHEMAS[schema])


def test_zizmor_finds_no_weakness() -> None:
    """The pedantic checks also require action hashes, least permissions and concurrency limits."""
    program = find_program("zizmor")
    files = [*WORKFLOWS, ROOT / ".github" / "dependabot.yml"]
    assert_no_findings(program, "--offline", "--pedantic", "--strict-collection", *files)


@pytest.mark.parametrize("path", [*DOCUMENTS, *WORKFLOWS], ids=lambda path: path.name)
def test_paths_in_documents_exist(path: Path) -> None:
    """Every path that a document or a workflow writes leads to a file, apart from placeholders."""
    names = set(REPOSITORY_PATH.findall(path.read_text(encoding="utf-8")))
    missing = [name for name in sorted(names) if "<" not in name and not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).is_file()] == []


def test_paths_in_text_are_recognized() -> None:
    text = "run `tests/export -k x`, export/targets/<name>/target.py. See https://x.org/docs/a"
    assert REPOSITORY_PATH.findall(text) == ["tests/export", "export/targets/<name>/target.py"]


def test_pre_commit_runs_the_ruff_of_ci() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    revision = re.search(r"ruff-pre-commit\n +rev: v(\S+)", hooks)
    version = re.search(r"^ruff==(\S+)$", constraints, re.MULTILINE)
    assert revision is not None
    assert version is not None
    assert revision[1] == version[1]


def test_extras_in_contributing_exist() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    groups = re.findall(r"\.\[([\w,-]+)\]", text)
    requested = {extra for group in groups for extra in group.split(",")}
    assert requested
    assert requested <= set(parser["options.extras_require"])
