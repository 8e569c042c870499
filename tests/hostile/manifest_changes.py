"""Changes of manifests: extreme values in each field, with a correct digest of the result."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

from tests.hostile.crafting import EXTREME_VALUES


def sign_manifest(document: dict[str, Any]) -> str:
    """Write a manifest as tinyvit-export does, with the digest of its text."""
    unsigned = {**document, "manifest_sha256": ""}
    digest = hashlib.sha256(format_manifest(unsigned).encode("ascii")).hexdigest()
    return format_manifest({**document, "manifest_sha256": digest})


def change_manifest(text: str, generator: random.Random, count: int) -> Iterator[tuple[str, str]]:
    """Yield manifests with one extreme value, each with a description.

    Args:
        text: A valid manifest.
        generator: Chooses the fields and the values.
        count: Number of manifests.
    """
    for _ in range(count):
        document = json.loads(text)
        places = list(_list_places(document))
        # The labels are most of the places.
        container, key, name = generator.choice(
            [place for place in places if "labels" not in place[2]]
            if generator.random() < 0.9
            else places
        )
        value = generator.choice(EXTREME_VALUES)
        container[key] = value
        yield f"{name} is {value!r:.60}", sign_manifest(document)


def _list_places(container: Any, name: str = "manifest") -> Iterator[tuple[Any, Any, str]]:
    """List the values in nested data, each as its container, its key and its name."""
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        place = f"{name}.{key}"
        yield container, key, place
        if isinstance(container[key], (dict, list)):
            yield from _list_places(container[key], place)


def format_manifest(document: Any) -> str:
    """Format a manifest, or any other JSON, as `Manifest.to_json` does."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True)
