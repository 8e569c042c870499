"""Explanations of checkpoints whose tensors are not those of a TinyViT."""

from __future__ import annotations

import re
from pathlib import Path

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import StoredTensor

_OTHER_SAM = (
    r"(?:^|\.)(?:mask_decoder|prompt_encoder)\.|(?:^|\.)neck\.0\.weight$",
    "is a SAM (Segment Anything) whose image encoder is not that of MobileSAM",
    "give a MobileSAM, such as mobile_sam.pt, whose image encoder is a TinyViT with a neck",
)
"""A pattern of the names of tensors that every SAM has, what the file is, and the remedy. It is not
applied to the tensors of MobileSAM's encoder."""

_EXPLANATIONS = (
    _OTHER_SAM,
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
"""Each row: a pattern of names of tensors that are not in the state dict of a TinyViT, what the
file is or contains, and the remedy."""

_NECK = "neck."
"""Beginning of the names of the tensors that only the image encoder of MobileSAM has."""


def explain_names(tensors: dict[str, StoredTensor], path: Path) -> CheckpointError | None:
    """Explain a state dict with names that no TinyViT has.

    Args:
        tensors: Tensors by name.
        path: The file.

    Returns:
        The error for the first row of `_EXPLANATIONS` that fits; None if no row fits.
    """
    if has_neck(tensors):
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_NECK)}
    return _explain(_EXPLANATIONS, tensors, path)


def has_neck(tensors: dict[str, StoredTensor]) -> bool:
    """Return whether a state dict is that of MobileSAM's image encoder.

    Args:
        tensors: Tensors by name, without the prefix of the encoder.
    """
    return {f"{_NECK}0.weight", "patch_embed.seq.0.c.weight"} <= tensors.keys()


def explain_surrounding_model(
    tensors: dict[str, StoredTensor], path: Path
) -> CheckpointError | None:
    """Explain a model that has a TinyViT as a part, and does not classify images.

    Args:
        tensors: Tensors of the model that are not in the TinyViT, by name.
        path: The file.

    Returns:
        The error; None if the model is not recognized.
    """
    return _explain((_OTHER_SAM,), tensors, path)


def _explain(
    explanations: tuple[tuple[str, str, str], ...], tensors: dict[str, StoredTensor], path: Path
) -> CheckpointError | None:
    """Return the error for the first explanation whose pattern occurs in a name."""
    for pattern, description, remedy in explanations:
        names = [name for name in tensors if re.search(pattern, name)]
        if names:
            return CheckpointError(f"{path} {description}: {names[0]}", remedy)
    return None
