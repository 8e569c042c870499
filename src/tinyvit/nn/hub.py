"""Released checkpoints by name: fetched from the hub into its cache, or found there when offline."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from tinyvit.errors import CheckpointError, MissingDependencyError
from tinyvit.nn.checkpoint import Checkpoint, load_checkpoint
from tinyvit.output_capture import quiet_loggers
from tinyvit.variants import DEMO_MODEL, Released, find_released

_FILE = "model.safetensors"


def load_released(name: str) -> Checkpoint:
    """The checkpoint of a released name, full or short, or the packaged "demo" (ten classes of ImageNet, no network needed).

    Raises RequestError for an unknown name, CheckpointError where it cannot be had.
    """
    if name == DEMO_MODEL:
        with resources.as_file(
            resources.files("tinyvit").joinpath("assets/demo.safetensors")
        ) as path:
            return load_checkpoint(path, name)
    released = find_released(name)
    checkpoint = load_checkpoint(fetch_checkpoint(released), released.name)
    return replace(checkpoint, license=released.license)


def fetch_checkpoint(released: Released) -> Path:
    """The file of a released checkpoint: huggingface_hub's cache, token and offline mode (HF_HUB_OFFLINE) apply.

    Where the hub does not answer at once (HF_HUB_ETAG_TIMEOUT, 10 seconds), the cache alone is asked.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError.of("huggingface_hub", "export") from error
    elsewhere = f"download {_FILE} from huggingface.co/{released.hub_id} elsewhere and give that file instead of the name"
    with quiet_loggers("huggingface_hub"):
        refusal = _refusal(released)
        try:
            return Path(
                hf_hub_download(released.hub_id, _FILE, local_files_only=refusal is not None)
            )
        except LocalEntryNotFoundError as error:
            status = getattr(getattr(refusal, "response", None), "status_code", None)
            if status in (401, 403):
                raise CheckpointError(
                    f"the hub refuses {released.hub_id}", "check the token in HF_TOKEN, or unset it"
                ) from refusal
            why = (
                f"answers {status}"
                if status
                else f"cannot be reached ({type(refusal or error).__name__})"
            )
            cause = f"{released.name} is not in the hub's cache, and the hub {why}"
            raise CheckpointError(cause, elsewhere) from refusal or error
        except (HfHubHTTPError, OSError) as error:
            raise CheckpointError(
                f"fetching {released.hub_id} failed ({type(error).__name__})",
                f"try again, or {elsewhere}",
            ) from error


def _refusal(released: Released) -> Exception | None:
    """Why the hub will not give the file, asked once: hf_hub_download asks six times, for 25 seconds or, unanswered, for minutes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(released.hub_id, _FILE))
    except Exception as error:  # of requests, httpx or httpx2, by its version
        return error
    return None
