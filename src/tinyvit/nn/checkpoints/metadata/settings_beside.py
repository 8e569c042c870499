"""Adds the settings in files beside a checkpoint to its metadata, if they belong to its model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tinyvit.nn.checkpoints.metadata.settings_files import read_settings_files
from tinyvit.nn.checkpoints.weights import Weights
from tinyvit.variants import VARIANTS, Variant


def add_settings_beside(weights: Weights, variant: Variant, path: Path) -> Weights:
    """Add the settings in files beside a checkpoint, except files that name another model.

    Args:
        weights: The content of the checkpoint, with the config.json beside it.
        variant: The variant of the checkpoint.
        path: The checkpoint file or its folder.

    Returns:
        The content, whose metadata contains the settings in each file by the name of the file.
        Files that are not understood or name another model are listed in `ignored`, and a
        config.json of another model becomes {}.
    """
    metadata, config, ignored = dict(weights.metadata), weights.config, list(weights.ignored)
    if _names_another_model(config.get("architecture"), variant):
        name = ascii(config["architecture"])[:60]
        ignored.append(f"config.json, which describes {name} and not {variant.name}")
        config = {}
    for file, settings in read_settings_files(path).items():
        if settings is None:
            ignored.append(f"{file}, which is too large or whose form is not understood")
            continue
        model = settings.get("model")
        if _names_another_model(model, variant):
            ignored.append(f"{file}, which names {ascii(model)[:60]} and not {variant.name}")
        else:
            metadata[file] = settings
    return replace(weights, metadata=metadata, config=config, ignored=tuple(ignored))


def _names_another_model(name: object, variant: Variant) -> bool:
    """Return whether a file of settings belongs to another model than this variant.

    Args:
        name: The name of the model in the file. Anything but a text names no model.
        variant: The variant of the checkpoint. Variants that differ only in the image size count as
            the same model, and so does a TinyViT whose variant the name does not tell.
    """
    if not isinstance(name, str):
        return False
    named_variants = [candidate for candidate in VARIANTS.values() if candidate.name in name]
    is_tiny_vit = "tiny" in name.lower() and "vit" in name.lower()
    fits_variant = not named_variants or any(
        candidate.embed_dims == variant.embed_dims for candidate in named_variants
    )
    return not (is_tiny_vit and fits_variant)
