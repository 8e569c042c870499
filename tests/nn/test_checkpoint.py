import argparse
import json

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from tinyvit.errors import CheckpointError, RequestError  # noqa: E402
from tinyvit.nn import checkpoint, hub  # noqa: E402
from tinyvit.nn.model import TinyViT  # noqa: E402
from tinyvit.variants import VARIANTS  # noqa: E402


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return TinyViT(VARIANTS["tiny_vit_5m_224"], 7).state_dict()


@pytest.fixture
def save(tmp_path):
    def save(content, name="weights.pth"):
        path = tmp_path / name
        torch.save(content, path)
        return path

    return save


def refused(path):
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fine_tune_with_any_number_of_classes(state, save):
    loaded = checkpoint.load_checkpoint(save(state))
    assert (loaded.variant.name, loaded.num_classes, loaded.layout, loaded.labels) == (
        "tiny_vit_5m_224",
        7,
        "timm",
        None,
    )
    assert len(loaded.sha256) == 64


def test_training_checkpoint_gives_its_averaged_weights(state, save):
    averaged = {
        f"module.{key}": value + 1 if value.is_floating_point() else value
        for key, value in state.items()
    }
    training = {
        "epoch": 3,
        "args": argparse.Namespace(lr=1.0),
        "state_dict": state,
        "optimizer": {"state": {0: {"step": torch.tensor(1)}}},
        "state_dict_ema": averaged,
    }
    loaded = checkpoint.load_checkpoint(save(training))
    assert loaded.container == "state_dict_ema"
    assert torch.equal(loaded.state_dict["head.fc.bias"], state["head.fc.bias"] + 1)


def test_safetensors_in_half_precision_with_labels_and_license(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    metadata = {
        "labels": json.dumps(["n02123045", *"abcdef"]),
        "license": "MIT",
        "preprocess": json.dumps(
            {
                "size": 224,
                "resize": 224,
                "crop": "squash",
                "interpolation": "bilinear",
                "mean": [0.5] * 3,
                "std": [0.5] * 3,
            }
        ),
    }
    safetensors_torch.save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        path,
        metadata,
    )
    loaded = checkpoint.load_checkpoint(path)
    assert [label.name for label in loaded.labels] == ["tabby", *"abcdef"]
    assert (loaded.license, loaded.preprocess.crop, loaded.preprocess.mean) == (
        "MIT",
        "squash",
        (0.5, 0.5, 0.5),
    )
    assert all(
        value.dtype == torch.float32
        for key, value in loaded.state_dict.items()
        if "num_batches" not in key
    )


def test_labels_of_a_class_to_idx_map(state, save):
    loaded = checkpoint.load_checkpoint(
        save({"model": state, "class_to_idx": {name: i for i, name in enumerate("gfedcba")}})
    )
    assert [label.name for label in loaded.labels] == list("gfedcba")


def test_demo_is_in_the_package():
    loaded = hub.load_released("demo")
    assert (
        [label.name for label in loaded.labels][3],
        loaded.license,
        loaded.preprocess.resize,
    ) == ("tabby", "MIT", 235)


@pytest.mark.parametrize(("size", "table"), [(256, 64), (384, 144), (96, 9)])
def test_another_size_interpolates_the_biases(state, save, size, table):
    loaded = checkpoint.load_checkpoint(save(state)).at_size(size)
    assert loaded.state_dict["stages.1.blocks.0.attn.attention_biases"].shape == (4, table)
    with torch.inference_mode():
        assert loaded.build()(torch.zeros(1, 3, size, size)).shape == (1, 7)


def test_interpolation_is_the_papers(state, save):
    loaded = checkpoint.load_checkpoint(save(state))
    biases = loaded.state_dict["stages.2.blocks.0.attn.attention_biases"].normal_()
    resized = loaded.at_size(384).state_dict["stages.2.blocks.0.attn.attention_biases"]
    expected = torch.nn.functional.interpolate(
        biases.view(1, 5, 14, 14), size=(24, 24), mode="bicubic"
    ).view(5, 576)
    assert torch.equal(resized, expected)


@pytest.mark.parametrize(
    ("size", "nearest"), [(250, "224 or 256"), (0, "32 or 64"), (5000, "1024")]
)
def test_other_sizes_name_the_nearest(state, save, size, nearest):
    with pytest.raises(RequestError, match=nearest):
        checkpoint.load_checkpoint(save(state)).at_size(size)


def test_truncated_files(state, save, tmp_path):
    whole = save(state).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(tmp_path / "cut.pth")
    safetensors_torch.save_file(state, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs"),
        (b"", "empty"),
        (b"hello", "neither"),
        (b"\xff" * 100, "neither"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{" + b"x" * 200, "damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged"),
        (b"PK\x03\x04" + b"\0" * 50, "truncated"),
        (b"\x80\x02}q\x00", "truncated"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, data, said):
    (tmp_path / "weights.pth").write_bytes(data)
    assert said in refused(tmp_path / "weights.pth")


def test_absent_file(tmp_path):
    assert "cannot be read" in refused(tmp_path / "absent.pth")
    assert "cannot be read" in refused(tmp_path)


class Exploit:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_no_pickle_runs_code(state, save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "could run code" in refused(save({"model": state, "extra": Exploit()}))
    assert not (tmp_path / "executed").exists()


def test_missing_and_unexpected_keys_are_named(state, save):
    changed = {
        key: value
        for key, value in state.items()
        if not key.startswith("stages.3.blocks.1.mlp.fc2")
    }
    said = refused(save({**changed, "surprise": torch.zeros(1)}))
    assert (
        "has the widths of tiny_vit_5m_224, but not its keys (missing 2: stages.3.blocks.1.mlp.fc2."
        in said
    )
    assert "; unexpected 1: surprise): save the model's whole state dict" in said


def test_other_networks_are_refused(state, save):
    assert "not a TinyViT" in refused(
        save({f"layer{i}.weight": torch.zeros(2, 2) for i in range(20)})
    )
    assert "no classifier" in refused(
        save({key: value for key, value in state.items() if not key.startswith("head.fc")})
    )
    widths = {**state, "patch_embed.conv2.conv.weight": torch.zeros(72, 32, 3, 3)}
    assert "nearest is tiny_vit_5m_224" in refused(save(widths))
    shape = {**state, "stages.1.blocks.0.mlp.fc1.weight": torch.zeros(500, 128)}
    assert "(500, 128) instead of (512, 128)" in refused(save(shape))
    assert "no state dict" in refused(save({"epoch": 1}))
    assert "no state dict" in refused(save([1, 2]))


def test_nan_weights_are_refused(state, save):
    assert "NaN" in refused(save({**state, "head.fc.bias": torch.full((7,), float("nan"))}))
