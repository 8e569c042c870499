"""Explanations of checkpoints whose tensors are not those of a TinyViT for classification."""

from __future__ import annotations

import re
from pathlib import Path

from tinyvit.errors import CheckpointError
from tinyvit.nn.stored_tensors import StoredTensor

_MOBILE_SAM = (
    r"(?:^|\.)(?:mask_decoder|prompt_encoder)\.|(?:^|\.)neck\.0\.weight$",
    "is a MobileSAM (a TinyViT for segmentation, with a neck instead of a classifier)",
    "give a checkpoint of a TinyViT that classifies images",
)
"""A pattern of the names of tensors that only a MobileSAM has, what the file is, and the remedy."""

_EXPLANATIONS = (
    _MOBILE_SAM,
    (
        r"lora_|\.base_layer\.|(?:^|\.)base_model\.model\.|hada_w|adapter_",
        "contains an adapter (LoRA) that is not merged into the weights",
        "merge it (model = model.merge_and_unload() in peft) and save model.state_dict()",
    ),
    (
        r"_packed_params|\.zero_point$|\.weight_scale$|\.SCB$|\.absmax$|quant_state|\.qweight$"
        r"|activation_post_process|weight_fake_quant",
        "contains a quantized network or the state of a quantizer",
        "give the float checkpoint from before the quantization",
    ),
    (
        r"(?:^|\.)patch_embed\.(?:seq\.0|conv1)\.(?:weight|bias)$",
        "contains a network whose BatchNorms are merged into the convolutions (fuse)",
        "save the state dict before model.fuse()",
    ),
    (
        r"(?:^|\.)_?flat_param",
        "contains the flat parameters of FSDP, which have no shapes",
        "save the state dict with full_state_dict=True"
        " (torch.distributed.checkpoint.state_dict.get_model_state_dict)",
    ),
    (
        r"(?:^|\.)stages_\d\.",
        "contains a network that returns feature maps (features_only=True) without a classifier",
        "export a checkpoint that was trained with its classifier",
    ),
    (
        r"(?:^|\.)parametrizations\.",
        "contains weights that are stored as several tensors (torch.nn.utils.parametrizations)",
        "call torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') for each of"
        " these modules, then save the state dict",
    ),
    (
        r"\.weight_g$",
        "contains weights that are stored as a length and a direction (torch.nn.utils.weight_norm)",
        "call torch.nn.utils.remove_weight_norm for each of these modules, then save the state"
        " dict",
    ),
    (
        r"\.weight_u$",
        "contains weights that are divided by a norm at each call (torch.nn.utils.spectral_norm)",
        "call torch.nn.utils.remove_spectral_norm for each of these modules, then save the state"
        " dict",
    ),
)
"""Each row: a pattern of names of tensors that are not in the state dict of a TinyViT for
classification, what the file is or contains, and the remedy."""


def explain_names(tensors: dict[str, StoredTensor], path: Path) -> CheckpointError | None:
    """Explain a state dict with names that no TinyViT for classification has.

    Args:
        tensors: Tensors by name.
        path: The file.

    Returns:
        The error for the first row of `_EXPLANATIONS` that fits; None if no row fits.
    """
    return _explain(_EXPLANATIONS, tensors, path)


def explain_surrounding_model(
    tensors: dict[str, StoredTensor], path: Path
) -> CheckpointError | None:
    """Explain a model that has a TinyViT as a part, but does not classify images.

    Args:
        tensors: Tensors of the model that are not in the TinyViT, by name.
        path: The file.

    Returns:
        The error; None if the model is not recognized.
    """
    return _explain((_MOBILE_SAM,), tensors, path)


def _explain(
    explanations: tuple[tuple[str, str, str], ...], tensors: dict[str, StoredTensor], path: Path
) -> CheckpointError | None:
    """Return the error for the first explanation whose pattern occurs in a name."""
    for pattern, description, remedy in explanations:
        names = [name for name in tensors if re.search(pattern, name)]
        if names:
            return CheckpointError(f"{path} {description}: {names[0]}", remedy)
    return None
