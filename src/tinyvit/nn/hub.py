"""Released checkpoints by name: fetched from the hub into its cache, or found there when offline."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from tinyvit.errors import CheckpointError, MissingDependencyError
from tinyvit.nn.checkpoint import Checkpoint, load
from tinyvit.variants import DEMO_MODEL, Released, find

_FILE = "model.safetensors"


def load_released(name: str) -> Checkpoint:
    """The checkpoint of a released name, full or short, or the packaged "demo" (ten classes of ImageNet, no network needed).

    Raises RequestError for an unknown name, CheckpointError where it cannot be had.
    """
    if name == DEMO_MODEL:
        with resources.as_file(resources.files("tinyvit").joinpath("data/demo.safetensors")) as path:
            return load(path, name)
    released = find(name)
    checkpoint = load(fetch(released), released.name)
    return replace(checkpoint, licence=released.licence)


def fetch(released: Released) -> Path:
    """The file of a released checkpoint: huggingface_hub's cache, token and offline mode (HF_HUB_OFFLINE) apply."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise MissingDependencyError.of("huggingface_hub", "export") from error
    elsewhere = f"download {_FILE} from huggingface.co/{released.hub_id} elsewhere and give --checkpoint FILE"
    try:
        return Path(hf_hub_download(released.hub_id, _FILE))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(f"{released.name} is not in the hub's cache, and the hub cannot be reached", elsewhere) from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise CheckpointError(f"the hub refuses {released.hub_id}", "check the token in HF_TOKEN, or unset it") from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"fetching {released.hub_id} failed ({type(error).__name__})", f"try again, or {elsewhere}") from error
