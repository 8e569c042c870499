"""Every error of a command line is one line with a cause and a remedy, and the exit code is 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.bench import cli as bench
from tinyvit.cli import make_parser, positive_int
from tinyvit.command_parser import CommandParser


@pytest.fixture
def parser() -> CommandParser:
    parser = make_parser("program", "Description.", "  program")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--image-count", type=positive_int)
    parser.add_argument("-o", "--output")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--address", type=str)
    parser.add_argument("--mode", choices=("host", "full"))
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--model")
    group.add_argument("--checkpoint", type=Path)
    return parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "x --imgsize 64",
            "there is no option --imgsize: did you mean --img-size? See program --help",
        ),
        ("data --precision int8", "there is no option --precision: see program --help"),
        ("--imgsize=64", "there is no option --imgsize: did you mean --img-size? See program"),
        ("x --zzz", "there is no option --zzz: see program --help"),
        ("x y", "the argument y is not expected: see program --help"),
        ("x mine.pth", "the argument mine.pth is not expected: use --checkpoint mine.pth"),
        ("x -q", "there is no option -q: see program --help"),
        ("", "DATA is missing: add it, as in the examples of program --help"),
        ("x --img-size", "--img-size has no value: give one after it"),
        ("x --img-size a", "'a' is not a whole number (--img-size): correct it"),
        (
            "x --image-count 0",
            "'0' is not a whole number of at least 1 (--image-count): correct it;"
            " program --help describes it",
        ),
        ("x --fast=1", "--fast takes no value, and 1 was given: leave the value out"),
        (
            "x --im 1",
            "--im is the beginning of several options: give one of --img-size, --image-count",
        ),
        (
            "x --mode ful",
            "--mode cannot be ful: did you mean full? The possible values are host, full",
        ),
        ("x --mode zzzz", "--mode cannot be zzzz: use one of host, full"),
        (
            "x --model a --checkpoint b",
            "--checkpoint and --model cannot be given together: give one of them",
        ),
        ("https://a.org/b", "DATA https://a.org/b is a URL, and a path is needed: give the path"),
        (
            "x --checkpoint https://a.org/b",
            "--checkpoint https://a.org/b is a URL, and a path is needed: give the path",
        ),
        ("x -o s3://b/c", "--output s3://b/c is a URL, and a path is needed: give the path"),
        ("x --output=file:///c", "--output file:///c is a URL, and a path is needed: leave out"),
    ],
)
def test_an_error_is_one_line_with_exit_code_2(
    parser: CommandParser, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser.suggest_option = lambda word: f"--checkpoint {word}" if "." in word else None
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_correct_arguments_are_accepted(parser: CommandParser) -> None:
    words = ["--address", "ray://host:1", "--img", "64", "--", "--data"]
    arguments = parser.parse_args(words)
    assert (arguments.address, arguments.img_size) == ("ray://host:1", 64)
    assert arguments.data == Path("--data")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "COMMAND is missing: add it, as in the examples of program --help"),
        ("rum", "there is no command rum: did you mean run? The possible values are stop, run"),
        ("--zzz run", "there is no option --zzz: see program --help"),
        (
            "run --thread 1 --treads 2",
            "there is no option --treads: did you mean --threads? See program run --help",
        ),
        ("run x", "the argument x is not expected: see program run --help"),
        ("run --folder https://a.org", "--folder https://a.org is a URL, and a path is needed"),
    ],
)
def test_a_subcommand_explains_its_own_errors(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = make_parser("program", "Description.", "  program")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("stop")
    command = commands.add_parser("run")
    command.add_argument("--threads", type=int)
    command.add_argument("--folder", type=Path)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments.split())
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("latency a.onnx --end-to-end URL", "--end-to-end"),
        ("accuracy a.onnx --data URL", "--data"),
        ("accuracy URL --data x", "ARTIFACT"),
        ("report a.json -o URL", "--output"),
        ("compare URL a.json", "BEFORE"),
    ],
)
def test_benchmarks_refuse_a_url(
    arguments: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(arguments.replace("URL", "https://a.org/b").split())
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {option} https://a.org/b is a URL, and a path is needed: give the path of a local"
        " file or folder; download a remote file first\n"
    )


@pytest.mark.parametrize("option", ["--init", "--data", "--val-data", "--logits"])
def test_training_refuses_a_url(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from tinyvit.distill import cli as distill

    with pytest.raises(SystemExit) as caught:
        distill.main(["train", "--data", "x", "-o", "y", option, "https://a.org/b"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(
        f"error: {option} https://a.org/b is a URL, and a path is needed: give the path of a local"
    )


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ("x", ["usual"]),
        ("x --names a", ["a"]),
        ("x --names a b --names c", ["a", "b", "c"]),
        ("x --names usual --names usual", ["usual", "usual"]),
    ],
)
def test_values_of_repeated_options_add_up(
    parser: CommandParser, arguments: str, values: list[str]
) -> None:
    parser.add_argument("--names", nargs="+", default=["usual"])
    parser.add_argument("--numbers", nargs="+", type=int)
    for _ in range(2):  # The default is not changed by the first call.
        assert parser.parse_args(arguments.split()).names == values
    assert parser.parse_args(["x", "--numbers", "1", "--numbers=2"]).numbers == [1, 2]
    assert parser.parse_args(["x", "-o", "a", "-o", "b"]).output == "b"
