"""Stops libraries from sending usage data, and from leaving files in the user's folders.

Some libraries that this package uses report every use to their authors unless they are told not to.
The functions here tell them. A setting that the user has made is never changed.
docs/explanation/security.md lists what each library does by itself. This module is part of every
`import tinyvit`, so it imports little itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

ONNXRUNTIME_VARIABLE = "ORT_DISABLE_TELEMETRY"
"""Environment variable that turns off onnxruntime's telemetry: 1, true, yes, on or y."""

_TELEMETRY_VARIABLES = {
    ONNXRUNTIME_VARIABLE: "1",  # of onnxruntime 1.29 and later; it is read during the import
    "HF_HUB_DISABLE_TELEMETRY": "1",  # of huggingface_hub; it is read during the import
    "RAY_USAGE_STATS_ENABLED": "0",  # of ray; it is read when a cluster is started
}
"""Environment variable -> the value that turns off the telemetry of a library."""

_CACHE_VARIABLES = {
    "MPLCONFIGDIR": "matplotlib",  # the list of fonts; otherwise in ~/.cache and ~/.config
    "TORCHINDUCTOR_CACHE_DIR": "torch",  # compiled code; otherwise in /tmp/torchinductor_USER
}
"""Environment variable with the cache folder of a library -> name of a subfolder for it."""

_OPENVINO_TELEMETRY = "openvino_telemetry"
"""Name of the package with which OpenVINO reports its use, and of the user's consent file."""


def disable_telemetry() -> None:
    """Turn off the telemetry of onnxruntime, huggingface_hub and ray in this process.

    The settings are environment variables, so child processes have them too. A variable that the
    user has set to any value other than "" is kept. The package tinyvit calls this function when it
    is imported; OpenVINO has no such variable, so `hide_openvino_telemetry` is needed for it.
    """
    is_chosen_by_user = bool(os.environ.get(ONNXRUNTIME_VARIABLE))
    for variable, value in _TELEMETRY_VARIABLES.items():
        if not os.environ.get(variable):
            os.environ[variable] = value
    # If onnxruntime was imported before, it has read the variable already. Its own function
    # suppresses the events of the sessions that are opened from now on.
    disable_events = getattr(sys.modules.get("onnxruntime"), "disable_telemetry_events", None)
    if disable_events is not None and not is_chosen_by_user:
        disable_events()


@contextmanager
def hide_openvino_telemetry() -> Iterator[None]:
    """Hide the package openvino_telemetry while OpenVINO is imported.

    `import openvino` sends an event to Google Analytics and writes to ~/intel. The only setting
    that prevents this is a file in the user's home folder, but without the package, OpenVINO uses
    a substitute that does nothing. The package is not hidden if the user has consented to the
    telemetry with the command "opt_in_out --opt_in".

    Yields:
        Nothing.
    """
    if _OPENVINO_TELEMETRY in sys.modules or _has_openvino_consent():
        yield
        return
    sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # makes an import fail
    try:
        yield
    finally:
        sys.modules.pop(_OPENVINO_TELEMETRY, None)


@contextmanager
def use_temporary_caches() -> Iterator[None]:
    """Let matplotlib and torch keep their caches in a temporary folder, and delete it at the end.

    The variable MPLCONFIGDIR or TORCHINDUCTOR_CACHE_DIR is kept if the user has set it. If no
    folder for temporary files is writable, nothing is changed. If the process is killed, a later
    command deletes the folder.

    Yields:
        Nothing.
    """
    from tinyvit.files.staging import temporary_folder

    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder())
        except OSError:  # No folder is writable, for example because the disk is full.
            yield
            return
        changed_variables = [name for name in _CACHE_VARIABLES if not os.environ.get(name)]
        for name in changed_variables:
            os.environ[name] = str(folder / _CACHE_VARIABLES[name])
        try:
            yield
        finally:
            for name in changed_variables:
                os.environ.pop(name, None)


def _has_openvino_consent() -> bool:
    """Return whether the user has consented to OpenVINO's telemetry.

    The place and the content of the consent file are those of `OptInChecker` in the package
    openvino_telemetry 2025.2.
    """
    from tinyvit.files.regular_files import open_regular_file

    try:
        if sys.platform == "win32":
            folder = os.path.join(os.environ["LOCALAPPDATA"], "Intel Corporation")
        else:
            folder = os.path.expanduser("~/intel")
        path = os.path.join(folder, _OPENVINO_TELEMETRY)
        with open_regular_file(path) as file:
            return file.read(2).strip() == b"1"
    except (OSError, KeyError):
        return False
