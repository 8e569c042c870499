"""Files that are not checkpoints of a classifier are refused with what they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch
from torch import nn

from tests.helpers.state_dicts import (
    Layer,
    Save,
    add_prefix,
    make_state,
    refusal,
)


def test_weights_of_fsdp_and_deepspeed_without_shapes_are_named(save: Save) -> None:
    flat = {f"_fsdp_wrapped_module.{i}._flat_param": torch.zeros(9) for i in range(12)}
    assert "the flat parameters of FSDP" in refusal(save(flat))
    empty = {name: torch.zeros(0) for name in make_state()}
    assert "DeepSpeed ZeRO-3" in refusal(save({"module": empty}))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["image_encoder.neck.0.weight"], "image encoder is not that of MobileSAM"),
        (["mask_decoder.x.weight"], "image encoder is not that of MobileSAM"),
        (["stages.1.blocks.0.attn.qkv.lora_A.default.weight"], "an adapter (LoRA)"),
        (["head.fc.zero_point"], "a quantized network"),
        (["backbone.stages_1.x.weight"], "features_only=True"),
        (["stages.1.x.parametrizations.weight.original0"], "remove_parametrizations(module"),
        (["head.fc.weight_g", "head.fc.weight_v"], "call torch.nn.utils.remove_weight_norm"),
        (["head.fc.weight_u", "head.fc.weight_v"], "call torch.nn.utils.remove_spectral_norm"),
    ],
)
def test_other_kinds_of_networks_are_named(save: Save, names: list[str], reason: str) -> None:
    prefix = "image_encoder." if "SAM" in reason else ""
    state = {**add_prefix(make_state(), prefix), **{name: torch.ones(3) for name in names}}
    assert reason in refusal(save(state))
    assert names[0].removeprefix("image_encoder.") in refusal(save(state))


def test_networks_without_the_first_convolution_are_named(save: Save) -> None:
    state = make_state()
    del state["patch_embed.conv1.conv.weight"]
    fused = {**state, "patch_embed.conv1.weight": torch.ones(1)}
    assert "BatchNorms are merged into the convolutions" in refusal(save(fused))
    adapter = {f"base_model.model.x.lora_A.{i}": torch.ones(1) for i in range(20)}
    assert "an adapter (LoRA)" in refusal(save(adapter))


def test_a_whole_quantized_model_is_named(save: Save) -> None:
    network = Layer(make_state())
    network.head.fc = nn.Linear(6, 7)
    quantize = torch.ao.quantization.quantize_dynamic
    with pytest.warns(DeprecationWarning, match="quantization"):
        quantized = quantize(network, {nn.Linear})
    message = refusal(save(quantized))
    assert "a quantized network" in message
    assert "head.fc._packed_params" in message


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "(it is a named pipe, not a regular file)" in refusal(tmp_path / "pipe")


def test_a_torchscript_archive_is_called_one(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "model.pt"))
    recwarn.clear()
    assert "is a TorchScript archive" in refusal(tmp_path / "model.pt")
    assert "torch.jit.load(path).state_dict()" in refusal(tmp_path / "model.pt")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.onnx", b"\x08\x08\x12\x07pytorch" + b"\0" * 50, "is an ONNX model"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "is an HDF5 file (of Keras or TensorFlow)"),
        ("a.tar", b"\0" * 257 + b"ustar" + b"\0" * 250, "is a tar archive"),
        ("a.pth.gz", b"\x1f\x8b\x08" + b"\0" * 50, "is a gzip archive"),
        ("a.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 50, "is a LiteRT (TensorFlow Lite) model"),
        ("a.gguf", b"GGUF" + b"\0" * 50, "is a GGUF file"),
        ("a.xml", b'<?xml version="1.0"?>\n<net name="m" version="11">', "an OpenVINO model"),
        ("b.xml", b'<net name="m" version="11">', "an OpenVINO model"),
        ("c.xml", b'<?xml version="1.0" encoding="utf-8"?>\n<html>', "is a web page"),
        ("a.engine", b"ftrt" + b"\0" * 50, "is a TensorRT engine"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert reason in refusal(tmp_path / name)


def test_other_archives_and_pickles_are_named(tmp_path: Path) -> None:
    import pickle

    np.savez(tmp_path / "weights.npz", a=np.ones(2))
    assert "numpy.savez" in refusal(tmp_path / "weights.npz")
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"a": np.ones(2)}))
    assert "is a plain pickle" in refusal(tmp_path / "weights.pkl")
