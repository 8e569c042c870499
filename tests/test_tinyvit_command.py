"""The command tinyvit runs the other commands, and prints scripts for the completion of shells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.install_commands import install_command
from tests.helpers.module_graph import read_config
from tinyvit import __version__
from tinyvit.__main__ import SUBCOMMANDS, list_programs, main, make_full_parser


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run tinyvit; return its exit code, stdout and stderr."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit_request:
        code = int(exit_request.code or 0)
    return code, *capsys.readouterr()


def test_each_program_of_setup_cfg_is_a_subcommand() -> None:
    scripts = read_config()["options.entry_points"]["console_scripts"].split("\n")
    programs = dict(line.split(" = ") for line in scripts if line)
    assert programs.pop("tinyvit") == "tinyvit.__main__:main"
    assert list(programs) == [
        "tinyvit-export",
        "tinyvit-predict",
        "tinyvit-verify",
        "tinyvit-inspect",
        "tinyvit-bench",
        "tinyvit-distill",
    ]
    assert list_programs() == ["tinyvit", *programs]
    for program, target in programs.items():
        subcommand = SUBCOMMANDS[program.removeprefix("tinyvit-")]
        assert target == f"{subcommand.module}:{subcommand.function}"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            [],
            "error: COMMAND is missing: add it, as in the examples of tinyvit --help\n",
        ),
        (
            ["exprt"],
            "error: there is no command exprt: did you mean export? The possible values are export,"
            " predict, verify, inspect, bench, distill, list, completion\n",
        ),
        (
            ["export", "--targt", "onnx"],
            "error: there is no option --targt: did you mean --target? See tinyvit export --help\n",
        ),
        (
            ["bench", "latency"],
            "error: ARTIFACT is missing: add it, as in the examples of tinyvit bench latency"
            " --help\n",
        ),
        (
            ["list", "--min-top1", "high"],
            "error: 'high' is not a number (--min-top1): correct it; tinyvit list --help describes"
            " it\n",
        ),
        (
            ["export", "--format"],
            "error: --target has no value: give one after it\n",
        ),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *arguments) == (2, "", line)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_has_its_own_help_and_version(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: tinyvit {name} ")
    assert run(capsys, name, "--version") == (0, f"tinyvit {name} {__version__}\n", "")


def test_only_the_requested_subcommand_is_imported() -> None:
    code = """
import sys
from tinyvit.__main__ import main
main(["list"])
loaded = {"tinyvit.bench", "tinyvit.distill", "torch", "onnxruntime"} & set(sys.modules)
print(sorted(loaded), file=sys.stderr)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stderr == "[]\n"


def test_the_list_is_filtered_by_accuracy_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "--min-top1", 80, "--max-mmacs", 2000, "--json")
    assert code == 0
    names = [model["name"] for model in json.loads(out)["models"]]
    assert names == ["tiny_vit_5m_224.dist_in22k_ft_in1k"]

    _, out, _ = run(capsys, "list", "--min-top1", 86, "--json")
    names = [model["name"] for model in json.loads(out)["models"]]
    assert names == [
        "tiny_vit_21m_384.dist_in22k_ft_in1k",
        "tiny_vit_21m_512.dist_in22k_ft_in1k",
    ]

    code, out, err = run(capsys, "list", "--max-mmacs", 1)
    assert (code, out, err) == (0, "no released checkpoint has what is requested\n", "")


def test_a_fraction_is_no_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list", "--min-top1", 0.8)
    assert (code, out) == (2, "")
    assert "'0.8' is not a percentage from 1 to 100, such as 80" in err


def test_the_text_of_the_list_has_only_the_selected_architectures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(capsys, "list", "--min-top1", 80, "--max-mmacs", 2000)
    rows = [line.split()[0] for line in out.splitlines() if line.startswith("  tiny_vit_")]
    assert rows == ["tiny_vit_5m_224", "tiny_vit_5m_224.dist_in22k_ft_in1k"]


@pytest.mark.parametrize("program", list_programs())
def test_the_parser_for_completion_has_all_options(program: str) -> None:
    parser = make_full_parser(program)
    assert parser.prog == program
    if program in ("tinyvit", "tinyvit-export"):
        assert (
            "--preprocess"
            in (
                parser if program == "tinyvit-export" else find_subparser(parser, "export")
            )._option_string_actions
        )


def find_subparser(parser, name):
    """Return the parser of a subcommand."""
    assert parser._subparsers is not None
    (action,) = parser._subparsers._group_actions
    return action.choices[name]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tinyvit", "exp"], ["export"]),
        (["tinyvit", "export", "--preproc"], ["--preprocess"]),
        (["tinyvit", "export", "--preprocess", "f"], ["full"]),
        (["tinyvit", "bench", "lat"], ["latency"]),
        (["tinyvit", "predict", "cat."], ["cat.jpg"]),
    ],
)
def test_bash_completes_commands_options_values_and_files(
    words: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    code, script, err = run(capsys, "completion", "bash")
    assert (code, err) == (0, "")
    (tmp_path / "script").write_text(script)
    (tmp_path / "cat.jpg").write_bytes(b"")
    command = (
        f"source ./script; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1};"
        ' _shtab_tinyvit; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    process = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert process.stdout.split() == expected


def test_a_missing_shtab_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    remedy = install_command("completion")
    assert run(capsys, "completion", "bash") == (
        1,
        "",
        f"error: shtab is not installed: {remedy}\n",
    )


def test_the_number_of_threads_is_set_before_torch_is_imported() -> None:
    code = (
        "import os; from tinyvit.export.cli import main; main(['--list', '--threads', '3'])\n"
        "import sys; print(os.environ['OMP_NUM_THREADS'], 'torch' in sys.modules, file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stderr == "3 False\n"


def test_torch_commands_let_waiting_threads_sleep_unless_the_user_decides() -> None:
    code = "import os, sys; from tinyvit.__main__ import main\n"
    code += "try: main()\nfinally: print(os.environ.get('OMP_WAIT_POLICY'), file=sys.stderr)"
    for variables, expected in (
        ({}, "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
        ({"GOMP_SPINCOUNT": "1000"}, "None"),
    ):
        environment = {
            name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"
        }
        process = subprocess.run(
            [sys.executable, "-c", code, "export", "--list"],
            capture_output=True,
            text=True,
            env={**environment, **variables},
        )
        assert process.stderr == f"{expected}\n"


@pytest.mark.parametrize(
    ("words", "example"),
    [
        (["export"], "  tinyvit export --model demo --target onnx\n"),
        (["distill", "check-logits"], "  tinyvit distill check-logits store/\n"),
        (["inspect"], "  tinyvit inspect tinyvit_5m.onnx\n"),
    ],
)
def test_examples_have_the_name_with_which_the_program_was_started(
    words: list[str], example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    out = capsys.readouterr().out
    assert example in out
    assert f"tinyvit-{words[0]} " not in out


def test_the_help_of_export_begins_with_what_is_exported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    out = capsys.readouterr().out
    options = [line.split()[0].rstrip(",") for line in out.splitlines() if line[:3] == "  -"]
    assert options[:5] == ["-h", "--version", "-m", "--checkpoint", "--list"]
