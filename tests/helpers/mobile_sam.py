"""Files in the layout of MobileSAM's release, with random weights of a realistic magnitude."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def make_mobile_sam_state(seed: int = 0) -> dict[str, Any]:
    """Make the state dict of the encoder with the names of MobileSAM's code, without a prefix.

    The released file also has the classifier of the TinyViT, which the encoder does not use.
    """
    import torch

    from tinyvit.nn.mobile_sam import MobileSamEncoder
    from tinyvit.variants import VARIANTS

    generator = torch.Generator().manual_seed(seed)
    network = MobileSamEncoder(VARIANTS["tiny_vit_5m_224"], img_size=64)
    state = {
        name_as_released(name): _make_values(name, value, generator)
        for name, value in network.state_dict().items()
    }
    state["norm_head.weight"], state["norm_head.bias"] = torch.ones(320), torch.zeros(320)
    state["head.weight"], state["head.bias"] = torch.zeros(1000, 320), torch.zeros(1000)
    return state


def save_mobile_sam(path: Path, seed: int = 0) -> Path:
    """Write a file with the encoder under its prefix, and a few tensors of the other parts."""
    import torch

    state = {f"image_encoder.{name}": value for name, value in make_mobile_sam_state(seed).items()}
    state["prompt_encoder.point_embeddings.0.weight"] = torch.zeros(1, 256)
    state["mask_decoder.transformer.layers.0.self_attn.q_proj.weight"] = torch.zeros(256, 256)
    state["mask_decoder.output_upscaling.1.weight"] = torch.zeros(64)
    torch.save(state, path)
    return path


def name_as_released(name: str) -> str:
    """Convert a name of timm's TinyViT to the one in MobileSAM's file."""
    name = re.sub(r"^patch_embed\.conv1\.", "patch_embed.seq.0.", name)
    name = re.sub(r"^patch_embed\.conv2\.", "patch_embed.seq.2.", name)
    name = name.replace(".conv.weight", ".c.weight")
    match = re.match(r"^stages\.(\d)\.downsample\.(.*)$", name)
    if match:
        return f"layers.{int(match[1]) - 1}.downsample.{match[2]}"
    return re.sub(r"^stages\.", "layers.", name)


def _make_values(name: str, value: Any, generator: Any) -> Any:
    """Make values for which activations keep about the same magnitude in all layers."""
    import torch

    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
        return 0.5 + torch.rand(value.shape, generator=generator)
    normal = torch.randn(value.shape, generator=generator)
    if name.endswith("attention_biases"):
        return normal
    if value.ndim == 1:
        return 0.1 * normal
    return normal * (1.5 / value[0].numel()) ** 0.5
