"""Loading of released checkpoints by name: from the Hugging Face hub, its cache or this package."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from tinyvit.errors import CheckpointError, MissingDependencyError, RequestError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.loading import is_checkpoint_path, load_checkpoint
from tinyvit.preprocess_settings import PreprocessSource
from tinyvit.processes.output_capture import quiet_loggers
from tinyvit.variants import DEMO_FILE, DEMO_MODEL, ReleasedCheckpoint, find_released

_HUB_FILE = "model.safetensors"
"""Name of the checkpoint file in every repository of timm on the hub."""


def load_released(name: str, options: PreprocessSource | None = None) -> Checkpoint:
    """Load a released checkpoint by name.

    Args:
        name: A name that `tinyvit.variants.find_released` accepts, or "demo" for the small model in
            this package (twelve classes of ImageNet), which needs no download.
        options: Settings of the preprocessing that override those of the training.

    Returns:
        The checkpoint.

    Raises:
        RequestError: No released checkpoint has this name.
        CheckpointError: The file can neither be downloaded nor found in the cache, or is damaged.
        MissingDependencyError: huggingface_hub is not installed.
    """
    if name == DEMO_MODEL:
        with resources.as_file(resources.files("tinyvit").joinpath(DEMO_FILE)) as path:
            return load_checkpoint(path, name, options, reads_config=False)
    released = find_released(name)
    # timm may have stored config.json beside the file, or not. The result must not depend on that,
    # and the settings in config.json are timm's defaults anyway.
    path = fetch_checkpoint(released)
    checkpoint = load_checkpoint(path, released.name, options, reads_config=False)
    labels_source = "ImageNet, on which the released checkpoint was trained"
    return replace(checkpoint, license=released.license, labels_source=labels_source)


def load_file_or_released(checkpoint: Path, requires_classifier: bool = True) -> Checkpoint:
    """Load a checkpoint by its path, or a released checkpoint by its name.

    Args:
        checkpoint: A checkpoint file or folder, or the name of a released checkpoint, or "demo".
        requires_classifier: Whether a file without a classifier (num_classes=0) is an error.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: The file cannot be used, or the checkpoint cannot be fetched.
        RequestError: No released checkpoint has this name.
    """
    if is_checkpoint_path(checkpoint) or checkpoint.is_file():
        return load_checkpoint(checkpoint, requires_classifier=requires_classifier)
    try:
        return load_released(str(checkpoint))
    except RequestError:
        if checkpoint.is_dir():
            return load_checkpoint(checkpoint)  # Its error states what the folder lacks.
        raise


def fetch_checkpoint(released: ReleasedCheckpoint) -> Path:
    """Download the file of a released checkpoint, or find it in the cache.

    The package huggingface_hub downloads the file. Its settings apply: the folder of the cache, the
    token, and the offline mode (environment variable HF_HUB_OFFLINE). If the hub does not answer
    within HF_HUB_ETAG_TIMEOUT seconds (10 by default), only the cache is used.

    Args:
        released: The checkpoint.

    Returns:
        The path of the file in the cache.

    Raises:
        CheckpointError: The file can neither be downloaded nor found in the cache.
        MissingDependencyError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError.for_package("huggingface_hub", extra="export") from error
    with quiet_loggers("huggingface_hub"):
        hub_error = _find_hub_error(released)
        try:
            return Path(
                hf_hub_download(released.hub_id, _HUB_FILE, local_files_only=hub_error is not None)
            )
        except LocalEntryNotFoundError as error:
            raise _explain_unavailable(released, hub_error or error) from hub_error or error
        except (HfHubHTTPError, OSError) as error:
            raise CheckpointError(
                f"downloading {released.hub_id} failed ({type(error).__name__})",
                f"try again, or {_explain_manual_download(released)}",
            ) from error


def _find_hub_error(released: ReleasedCheckpoint) -> Exception | None:
    """Request the file's metadata from the hub; return the error, or None if there is none.

    This sends one request. Without this check, `hf_hub_download` would repeat a failing request up
    to six times, which takes 25 seconds, or minutes if the hub does not answer at all.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(released.hub_id, _HUB_FILE))
    # huggingface_hub uses requests, httpx or httpx2, depending on its version. Their errors have no
    # common base class.
    except Exception as error:
        return error
    return None


def _explain_unavailable(released: ReleasedCheckpoint, hub_error: Exception) -> CheckpointError:
    """Explain why a checkpoint that is not in the cache cannot be downloaded."""
    status = getattr(getattr(hub_error, "response", None), "status_code", None)
    if status in (401, 403):
        return CheckpointError(
            f"the hub refuses {released.hub_id}", "check the token in HF_TOKEN, or unset it"
        )
    name, remedy = type(hub_error).__name__, _explain_manual_download(released)
    if name == "OfflineModeIsEnabled":
        reason, remedy = "is not asked in offline mode", f"unset HF_HUB_OFFLINE, or {remedy}"
    else:
        reason = f"answers {status}" if status else f"cannot be reached ({name})"
    return CheckpointError(
        f"{released.name} is not in the hub's cache, and the hub {reason}", remedy
    )


def _explain_manual_download(released: ReleasedCheckpoint) -> str:
    """Return the remedy for a machine that cannot reach the hub."""
    return (
        f"download {_HUB_FILE} from huggingface.co/{released.hub_id} on another machine"
        " and give that file instead of the name (tinyvit-export --checkpoint FILE)"
    )
