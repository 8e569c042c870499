"""Checks an engine file of TensorRT (a plan) before TensorRT loads it.

TensorRT itself does not check a plan. This module does, as far as that is possible;
docs/explanation/security.md ("TensorRT") lists the checks.
"""

from __future__ import annotations

import hashlib
import re

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import read_bounded
from tinyvit.runtimes import cuda
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.file_errors import unreadable_error
from tinyvit.runtimes.formats.sidecar import SidecarFormat

TENSORRT = SidecarFormat(
    name="tensorrt",
    suffix=".engine",
    magics=tuple(magic for product in cuda.PRODUCTS.values() for magic in product.magics),
    placement_rule="TensorRT placed every operator on the GPU: it refuses to build an engine from a"
    " network with an operator that the GPU does not run",
)

# In the header of a plan of TensorRT-RTX 1.7, the size of the file begins at byte 16 (8 bytes,
# little-endian), and the version of TensorRT-RTX that built the plan at byte 24 (4 bytes).
_SIZE_OFFSET, _VERSION_OFFSET, _HEADER_BYTES = 16, 24, 64

_UNSUITABLE_GPU = re.compile(
    r"has compute capability (?P<gpu>[\d.]+)\. Supported compute capabilities: "
    r"(?P<plan>\d[\d. ]*)\. (?P<is_unknown>TensorRT-RTX does not support)?"
)
"""Pattern of TensorRT-RTX's message about a plan for other GPUs. TensorRT-RTX 1.7 wrote it on an
NVIDIA H100 (compute capability 9.0)."""
_MAX_REASON_CHARACTERS = 500
"""Number of characters of TensorRT's message that are searched; the message depends on the plan."""


def read_checked_plan(artifact: Artifact) -> bytes:
    """Read an engine file, and check that it is complete and unchanged.

    Args:
        artifact: The file and its manifest, if it has one.

    Returns:
        All bytes of the file.

    Raises:
        ArtifactError: The file cannot be read, is damaged, or does not have the hash that its
            manifest states.
    """
    path, remedy = artifact.path, "the file is damaged or of another format: export it again"
    try:
        plan = read_bounded(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise unreadable_error(path, error) from error
    if not plan.startswith(TENSORRT.magics) or len(plan) < _HEADER_BYTES:
        raise ArtifactError(f"{path.name} is not a TensorRT engine", remedy)
    is_rtx = plan.startswith(cuda.PRODUCTS["rtx"].magics)
    stated_bytes = int.from_bytes(plan[_SIZE_OFFSET : _SIZE_OFFSET + 8], "little")
    if is_rtx and stated_bytes > len(plan):
        raise ArtifactError(f"{path.name} has only {len(plan)} of its {stated_bytes} bytes", remedy)
    if is_rtx and stated_bytes < len(plan):
        raise ArtifactError(
            f"{path.name} has {len(plan)} bytes, and its header states {stated_bytes}", remedy
        )
    stated_sha256 = artifact.manifest.content_sha256 if artifact.manifest else ""
    if stated_sha256 and hashlib.sha256(plan).hexdigest() != stated_sha256:
        raise ArtifactError(f"{path.name} does not have the hash that its manifest states", remedy)
    return plan


def find_flavor(artifact: Artifact, plan: bytes) -> cuda.Flavor:
    """Find the product that wrote a plan, by the plan's magic number.

    Args:
        artifact: The file and its manifest, if it has one.
        plan: All bytes of the file, as `read_checked_plan` returns them.

    Returns:
        The key of the product in `cuda.PRODUCTS`.

    Raises:
        ArtifactError: The manifest names another product.
    """
    flavor = next(
        flavor for flavor, product in cuda.PRODUCTS.items() if plan.startswith(product.magics)
    )
    tools = artifact.manifest.tools if artifact.manifest else {}
    stated_products = [product for product in cuda.PRODUCTS.values() if product.module in tools]
    if stated_products and cuda.PRODUCTS[flavor] not in stated_products:
        raise ArtifactError(
            f"{artifact.path.name} was written by {cuda.PRODUCTS[flavor].name}, but its manifest "
            f"names {stated_products[0].name}",
            "keep each engine file with its own .json file, or export it again",
        )
    return flavor


def read_version(plan: bytes) -> str:
    """Return the version of TensorRT-RTX that built a plan, such as "1.7.0.1".

    Args:
        plan: All bytes of a file that TensorRT-RTX wrote.
    """
    return ".".join(str(part) for part in plan[_VERSION_OFFSET : _VERSION_OFFSET + 4])


def make_refusal_error(
    artifact: Artifact, plan: bytes, flavor: cuda.Flavor, installed_version: str, reason: str
) -> ArtifactError:
    """Make the error for a plan that TensorRT cannot open.

    Args:
        artifact: The file.
        plan: All bytes of the file.
        flavor: The TensorRT product that refused it.
        installed_version: The version of this product.
        reason: The first error that TensorRT logged.
    """
    product = cuda.PRODUCTS[flavor].name
    file_name = artifact.path.name
    version = read_version(plan)
    other_gpus = _UNSUITABLE_GPU.search(reason[:_MAX_REASON_CHARACTERS])
    if flavor == "rtx" and version != installed_version:
        return ArtifactError(
            f"{product} cannot open {file_name} (it was built by {product} {version}, and this is "
            f"{installed_version})",
            f"export it again with this release of {product}",
        )
    if other_gpus is None:
        return ArtifactError(
            f"{product} cannot open {file_name} ({reason[:200]})",
            f"export it again with this release of {product}, for this GPU's compute capability",
        )
    gpu, plan_gpus = other_gpus["gpu"], ", ".join(other_gpus["plan"].split())
    return ArtifactError(
        f"{file_name} was built for GPUs with the compute capability {plan_gpus}, and this GPU has "
        f"{gpu}",
        f"export the model on this machine with --flavor classic, because {product} does not "
        "support this GPU"
        if other_gpus["is_unknown"]
        else f"export the model again with --compute {gpu}",
    )
