"""Makes ONNX files of networks with random weights, which take the same time as trained ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.image_sizes import compute_window_sizes
from tinyvit.studies.scaling.plan import BASE_VARIANT
from tinyvit.variants import IMAGENET_1K, VARIANTS

if TYPE_CHECKING:
    from tinyvit.nn.model import TinyViT

_PRODUCER = "tinyvit.studies.scaling"
"""Name of the program that wrote a file."""

SMALL_VARIANT = "small"
"""Name of a variant of four blocks and few channels, which is not among the released ones."""
_VARIANTS = {
    **VARIANTS,
    SMALL_VARIANT: replace(
        VARIANTS[BASE_VARIANT],
        name=SMALL_VARIANT,
        embed_dims=(16, 32, 32, 64),
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 2),
    ),
}


@dataclass(frozen=True)
class Network:
    """A network with random weights.

    Attributes:
        img_size: Size of the images in pixels.
        variant: Name of a released variant, or `SMALL_VARIANT`.
        classes: Number of classes.
        window_img_size: Size of the images, a multiple of 32, that the attention windows are for;
            None for `img_size`. Feature maps are padded if their windows are for another size.
        has_dynamic_batch: Whether a run may have any number of images; otherwise it has one.
        depths: Blocks of the four stages; None for those of the variant.
    """

    img_size: int
    variant: str = BASE_VARIANT
    classes: int = IMAGENET_1K
    window_img_size: int | None = None
    has_dynamic_batch: bool = False
    depths: tuple[int, int, int, int] | None = None

    @property
    def file_name(self) -> str:
        """A name of the file that differs between networks."""
        window = self.window_img_size or self.img_size
        batch = "-any-batch" if self.has_dynamic_batch else ""
        return f"{self.variant}-{self.classes}-{self.img_size}-{window}{batch}.onnx"

    def build(self) -> TinyViT:
        """Make the network, always with the same random weights."""
        import torch

        from tinyvit.nn.model import TinyViT

        variant = _VARIANTS[self.variant]
        if self.depths is not None:
            variant = replace(variant, depths=self.depths)
        windows = compute_window_sizes(self.window_img_size or self.img_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return TinyViT(variant, self.classes, self.img_size, windows).eval()

    def save(self, folder: Path) -> tuple[Path, int]:
        """Write the network as the target "onnx" does, unless the file exists.

        Args:
            folder: An existing folder.

        Returns:
            The file, and the number of multiply-accumulates for one image.

        Raises:
            MissingDependencyError: A package that exports is not installed.
            ArtifactError: The network cannot be traced.
        """
        import onnx_ir as ir

        from tinyvit.export.tracing import trace
        from tinyvit.nn.cost import count_macs
        from tinyvit.nn.fold import fold_model

        path = folder / self.file_name
        model = self.build()
        if not path.exists():
            graph = trace(fold_model(model), batch=None if self.has_dynamic_batch else 1)
            onnx_model = graph.to_onnx()
            # Runtimes refuse files of tinyvit-export without a manifest, which these lack.
            onnx_model.producer_name = _PRODUCER
            ir.save(onnx_model, path)
        return path, count_macs(model.to("meta"))  # which computes nothing
