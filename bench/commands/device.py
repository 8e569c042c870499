"""tinyvit-bench device: the same measurements on another machine, and its records brought here."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.cli import positive_int
from tinyvit.errors import RequestError
from tinyvit.files import write_atomically

if TYPE_CHECKING:
    from tinyvit.bench.devices.session import Outcome
    from tinyvit.bench.devices.transport import Transport
    from tinyvit.bench.record import Record

HELP = "time and verify exported files on another device, and bring its records here"
EXAMPLES = """\
  tinyvit-bench device demo.onnx demo.int8.onnx --ssh pi@raspberrypi --data val/ -o results/
  tinyvit-bench device demo.onnx --ssh jetson --use-env /home/me/venv
  tinyvit-bench device demo.int8.tflite --adb --runner benchmark_model
  tinyvit-bench device demo.onnx --local"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See the package."""
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="exported files")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--ssh",
        metavar="USER@HOST",
        help="any Linux with Python 3.10 and ssh: Jetson, Raspberry Pi, a server",
    )
    where.add_argument(
        "--adb", nargs="?", const="", metavar="SERIAL", help="an Android device; needs --runner"
    )
    where.add_argument(
        "--local", action="store_true", help="this machine, in an environment of its own"
    )
    add(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the records go; default: this folder",
    )
    add("--data", type=Path, metavar="DIR", help="class folders: count right answers there too")
    add(
        "--images",
        type=positive_int,
        default=500,
        metavar="N",
        help="of --data, so many are sent, evenly from the classes (500)",
    )
    add("--runtime", metavar="R", help="the engine there (the best for each file)")
    add(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads there (the engine's own default; --adb: 4)",
    )
    add("--runs", type=positive_int, metavar="N", help="queries of each file (662)")
    add("--timeout", type=float, default=3600, metavar="S", help="of each step there (3600)")
    ssh = parser.add_argument_group("--ssh and --local")
    ssh.add_argument("--port", type=int, metavar="P", help="of the ssh server")
    ssh.add_argument("--identity", type=Path, metavar="KEY", help="the private key")
    ssh.add_argument("--ssh-config", type=Path, metavar="FILE", help="instead of ~/.ssh/config")
    ssh.add_argument(
        "--python",
        default="python3",
        metavar="PATH",
        help="there, to make an environment with (python3)",
    )
    ssh.add_argument(
        "--use-env",
        metavar="DIR",
        help="an environment that is there and has tinyvit-edge, instead of a new one",
    )
    ssh.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="wheels to install from, for a device without a network (pip download)",
    )
    ssh.add_argument("--keep", action="store_true", help="leave the folder there")
    parser.add_argument_group("--adb").add_argument(
        "--runner", type=Path, metavar="FILE", help="benchmark_model or onnxruntime_perf_test"
    )
    add("--json", action="store_true", help="print one JSON object that names what was written")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where anything failed there."""
    _refuse_foreign(args)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.adb is not None:
        return _android(args)
    from tinyvit.bench.devices.session import RemoteMeasurement, measure_on_device

    asked = RemoteMeasurement(
        paths=tuple(args.files),
        data=args.data,
        images=args.images,
        python=sys.executable if args.local and args.python == "python3" else args.python,
        use_env=args.use_env,
        wheels=args.wheels,
        runtime=args.runtime,
        threads=args.threads,
        arguments=("--runs", str(args.runs)) if args.runs else (),
        timeout_s=args.timeout,
        keep=args.keep,
    )
    transport = _transport(args)
    outcome = measure_on_device(transport, asked, lambda line: print(line, file=sys.stderr))
    return _report(args, _safe(args.ssh or "local"), outcome)


def _refuse_foreign(args: argparse.Namespace) -> None:
    """Options of the other way are refused, never ignored."""
    ssh_only = {"--port": args.port, "--identity": args.identity, "--ssh-config": args.ssh_config}
    remote = {
        "--use-env": args.use_env,
        "--wheels": args.wheels,
        "--keep": args.keep,
        "--data": args.data,
        "--runtime": args.runtime,
    }
    foreign = {} if args.ssh else dict(ssh_only)
    foreign |= remote if args.adb is not None else {"--runner": args.runner}
    if given := [name for name, value in foreign.items() if value]:
        raise RequestError(
            f"{given[0]} has no meaning there", "leave it out; see --help for what goes with what"
        )
    if args.adb is not None and args.runner is None:
        raise RequestError(
            "--adb needs an engine's own benchmark",
            "give --runner; where it is from: docs/devices.md",
        )


def _transport(args: argparse.Namespace) -> Transport:
    from tinyvit.bench.devices.transport import Local, Ssh

    return Local() if args.local else Ssh(args.ssh, args.port, args.identity, args.ssh_config)


def _android(args: argparse.Namespace) -> int:
    from tinyvit.bench.devices.android import Adb, measure, runner_for
    from tinyvit.bench.latency.percentiles import MIN_SAMPLES_ABOVE

    names = {runner_for(path).name for path in args.files}
    if len(names) > 1:
        raise RequestError(
            f"the files need {' and '.join(sorted(names))}", "give files of one kind"
        )
    if not args.runner.is_file():
        raise RequestError(
            f"{args.runner} does not exist",
            f"it must be {names.pop()}, built for the device; see docs/devices.md",
        )
    adb = Adb(args.adb or None)
    record = measure(
        adb,
        args.files,
        args.runner,
        args.threads or 4,
        args.runs or MIN_SAMPLES_ABOVE[0.99],
        args.timeout,
    )
    written = write_atomically(
        args.output / f"{_safe(adb.name)}.latency.json", record.to_json() + "\n"
    )
    return _tell(args, [written], list(record.refusals), record)


def _report(args: argparse.Namespace, name: str, outcome: Outcome) -> int:
    written = []
    if outcome.verified:
        written.append(
            write_atomically(
                args.output / f"{name}.verify.json", json.dumps(outcome.verified) + "\n"
            )
        )
    for kind, record in (("latency", outcome.latency), ("accuracy", outcome.accuracy)):
        if record is not None:
            written.append(
                write_atomically(args.output / f"{name}.{kind}.json", record.to_json() + "\n")
            )
    refused = [
        line for record in (outcome.latency, outcome.accuracy) if record for line in record.refusals
    ]
    return _tell(args, written, [*refused, *outcome.problems], outcome.latency, outcome.kept)


def _tell(
    args: argparse.Namespace,
    written: list[Path],
    problems: list[str],
    latency: Record | None,
    kept: str | None = None,
) -> int:
    from tinyvit.bench.commands.latency import lines

    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if args.json:
        facts: dict[str, Any] = {
            "written": list(map(str, written)),
            "problems": problems,
            "kept": kept,
        }
        print(json.dumps(facts))
    else:
        print(
            "\n".join(
                [
                    *(lines(latency) if latency else []),
                    "",
                    *map(str, written),
                    *([f"left there: {kept}"] if kept else []),
                ]
            ).strip()
        )
    return 1 if problems else 0


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.rpartition("@")[2]).strip("-.") or "device"
