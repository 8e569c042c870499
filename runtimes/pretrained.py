"""Exports released models to ONNX files in the user's cache folder, for `from_pretrained`."""

from __future__ import annotations

import logging
import os
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from tinyvit import __version__
from tinyvit.errors import ArtifactError, CheckpointError, MissingDependencyError, RequestError
from tinyvit.files.file_io import expand_home, find_cache_folder, publish_files, sha256
from tinyvit.files.staging import staging_folder
from tinyvit.install_command import format_extra_command
from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded
from tinyvit.processes.python_process import make_module_command, read_last_line
from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.artifact import known_suffixes, read_artifact
from tinyvit.text.safe_text import escape_text, quote_argument
from tinyvit.variants import DEMO_FILE, DEMO_MODEL, find_released

_NEEDED_PACKAGES = ("torch", "onnx")
"""Packages that an export needs and that the extra "export" installs."""

_EXPORT_MODULE = "tinyvit.export.cli"

_EXPORT_LIMITS = RunLimits(seconds=2 * 3600, output_bytes=2**20)
"""Limits on the process that downloads a checkpoint and exports it. This takes minutes, or an hour
with a slow network."""
"""The module of the command tinyvit-export. It runs in another process, because importing torch in
this one would double the memory of a small server."""

_logger = logging.getLogger(__name__)


def export_released(name: str, progress: Progress = NullProgress()) -> Path:
    """Export a released model, unless this version of the package has already done so.

    The demo is exported again if its checkpoint in the package is another one than before, as after
    an update of a clone.

    Args:
        name: A name that `tinyvit.variants.find_released` accepts, or "demo".
        progress: Receives a message if the model is exported.

    Returns:
        The ONNX file, in a subfolder of `find_cache_folder()`.

    Raises:
        RequestError: If no released model has this name.
        MissingDependencyError: If the file does not exist yet, and a package is missing that the
            export needs.
        CheckpointError: If the export fails, for example because the hub cannot be reached.
    """
    model = _find_model(name)
    path = find_cache_folder().absolute() / "pretrained" / __version__ / f"{model}.onnx"
    if _is_usable(path, model):
        return path
    for package in _NEEDED_PACKAGES:
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"{model} must be exported first, and {package} is not installed",
                f"{format_extra_command('export')}, or give a file that another machine exported"
                f" (tinyvit-export --model {model})",
            )
    progress.message(f"exporting {model} to {path}, which is needed only once")
    _logger.info("exporting %s to %s", model, escape_text(str(path)))
    with staging_folder(path) as folder:
        _run_export(model, folder / path.name)
        publish_files([folder / path.name], path.parent)
    return path


def _find_model(name: str) -> str:
    """Return the full name of a model; raise RequestError for anything else, such as a path."""
    if name == DEMO_MODEL:
        return DEMO_MODEL
    try:
        return find_released(str(name)).name
    except RequestError:
        if not os.path.exists(expand_home(str(name))):
            raise
    raise RequestError(
        f"{name} is a file or folder, not the name of a released model",
        f"for an exported file ({known_suffixes()}): Classifier({str(name)!r}); for a"
        f" checkpoint: tinyvit-export --checkpoint {quote_argument(name)}",
    )


def _is_usable(path: Path, model: str) -> bool:
    """Return whether an exported file exists, is readable, and has the demo's present weights."""
    try:
        manifest = read_artifact(path).manifest if path.is_file() else None
    except ArtifactError:
        return False
    if manifest is None or model != DEMO_MODEL:
        return manifest is not None
    with resources.as_file(resources.files("tinyvit").joinpath(DEMO_FILE)) as checkpoint:
        return manifest.source.sha256 == sha256(checkpoint)


def _run_export(model: str, path: Path) -> None:
    """Run tinyvit-export in another process; raise its error as a CheckpointError."""
    command = make_module_command(_EXPORT_MODULE, "--model", model, "-o", str(path), "--json")
    try:
        process = run_bounded(command, _EXPORT_LIMITS)
    except ProcessLimitError as error:
        raise CheckpointError(
            f"{model} cannot be exported: the process {error}",
            f"export it by hand (tinyvit-export --model {model}), then open the file with"
            " Classifier(PATH)",
        ) from error
    if process.exit_code != 0:
        exit_code = f"exit code {process.exit_code}"
        last_line = read_last_line(process.stderr, if_empty=exit_code, max_characters=None)
        # One line with the cause and the remedy of the export's own error.
        export_error = last_line.removeprefix("error: ")
        # If the hub cannot be reached, the export's remedy is to download the checkpoint elsewhere
        # and to export it with `--checkpoint FILE` (`tinyvit.nn.checkpoints.hub`).
        if "--checkpoint FILE" in export_error:
            export_error += ", then open the exported file with Classifier(PATH)"
        raise CheckpointError(f"{model} cannot be exported", export_error)
