"""A fake onnxruntime_perf_test for tests of Android devices, written as a shell program.

It accepts the options that this project gives to the real program (command_args_parser.cc and
utils.cc in onnxruntime/test/perftest of microsoft/onnxruntime), and checks what the real one, the
execution provider and the driver of the NPU need. It measures nothing.
"""

from __future__ import annotations

import shlex
from pathlib import Path

STATISTICS = (
    "Min Latency: 0.0181 s",
    "Max Latency: 0.0253 s",
    "P50 Latency: 0.0199 s",
    "P90 Latency: 0.0207 s",
    "P95 Latency: 0.0212 s",
    "P99 Latency: 0.0231 s",
)
"""What the program prints for an artifact, among others."""

_PROGRAM = r"""#!/bin/sh
log={log}
fail() {{ echo "$1" >&2; exit 255; }}
printf '%s\n' "$@" > "$log/arguments"
printf '%s|' "$ORT_DISABLE_TELEMETRY" "$LD_LIBRARY_PATH" "$ADSP_LIBRARY_PATH" > "$log/variables"
ls > "$log/files"
provider=cpu threads= library= options= entry=
while [ $# -gt 1 ]; do
    case "$1" in
        -I) shift; continue ;;
        -e) [ "$2" = cpu ] || fail "QNN is not supported in this build" ;;
        -m) [ "$2" = times ] || fail "wrong -m" ;;
        -r) [ "$2" -gt 0 ] || fail "wrong -r" ;;
        -x) threads="$2" ;;
        -C) entry="$2" ;;
        --plugin_ep_libs) library="${{2#QNNExecutionProvider|}}" ;;
        --plugin_eps) provider="$2" ;;
        --plugin_ep_options) options="$2" ;;
        *) fail "See 'onnxruntime_perf_test --help'." ;;
    esac
    shift 2
done
[ -s "$1" ] || fail "Load model from $1 failed"
if [ "$provider" = QNNExecutionProvider ]; then
    backend="${{options#backend_path|}}"
    [ -s "$library" ] || fail "Can't register QNNExecutionProvider plugin library: $library"
    [ -s "$backend" ] || fail "Unable to load backend $backend"
    [ "$LD_LIBRARY_PATH" = "$(dirname "$library")" ] || fail "libQnnSystem.so is not found"
    [ "$ADSP_LIBRARY_PATH" = "$(dirname "$backend")" ] || fail "no Skel library for the NPU"
    [ -z "$threads" ] || fail "CPU threads for the NPU"
    if grep -q EPContext "$1"; then
        [ -z "$entry" ] || fail "nodes are assigned to the default CPU EP, but fallback is disabled"
    else
        [ "$entry" = "session.disable_cpu_ep_fallback|1" ] || fail "operators could be on the CPU"
    fi
fi
{ending}
"""


def write_perf_test(path: Path, log_folder: Path, failure: str | None = None) -> Path:
    """Write the program.

    Args:
        path: Where to write it.
        log_folder: Folder in which each run overwrites the files "arguments" (one a line),
            "variables" (separated by bars) and "files" (those of its working directory).
        failure: What the program prints on standard error before it fails with the exit code of
            the real one; None if it succeeds.

    Returns:
        The path.
    """
    lines = " ".join(map(shlex.quote, STATISTICS))
    ending = f"printf '%s\\n' {lines}" if failure is None else f"fail {shlex.quote(failure)}"
    path.write_text(_PROGRAM.format(log=shlex.quote(str(log_folder)), ending=ending))
    return path
