"""Checkpoints that unpack to gigabytes, or state any number of weights, are refused."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.processes import run_limited
from tests.helpers.state_dicts import make_state, refusal
from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.checkpoints.metadata.label_sources import find_labels
from tinyvit.nn.checkpoints.tensor_files.safetensors_files import read_safetensors
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS

Save = Callable[..., Path]
DIM = 6


def with_classifier(weight: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a small state dict with another classifier."""
    return {**make_state(), "head.fc.weight": weight, "head.fc.bias": bias}


def test_three_million_classes_of_one_stored_number_are_refused(save: Save) -> None:
    number = torch.zeros(1)
    state = with_classifier(number.expand(60_000_000, DIM), number.expand(60_000_000))
    assert "weights, more than 268,435,456" in refusal(save(state))
    # A million values are 4 MiB, and are stored as one number.
    state = with_classifier(number.expand(174_762, DIM), number.expand(174_762))
    assert "a tensor has many more elements than its storage" in refusal(save(state))


def test_a_small_expanded_tensor_is_read(save: Save) -> None:
    state = with_classifier(torch.ones(DIM).expand(7, DIM), torch.zeros(1).expand(7))
    weights = read_weights(save(state))
    assert torch.equal(weights.tensors["head.fc.weight"], torch.ones(7, DIM))


@pytest.mark.slow
def test_views_into_a_large_storage_do_not_copy_it(save: Save) -> None:
    """Each of the tensors is a part of one storage of 400 MB."""
    storage = torch.zeros(10**8)
    parts, position = {}, 0
    for name, value in make_state().items():
        part = storage[position : position + value.numel()].view(value.shape)
        part.copy_(value)
        parts[name], position = part, position + value.numel()
    path = save(parts)
    output = run_limited(
        f"""
        import resource
        from pathlib import Path
        from tinyvit.nn.checkpoints.weight_files import read_weights
        weights = read_weights(Path({str(path)!r}))
        print(len(weights.tensors), sum(t.untyped_storage().nbytes() for t in
              weights.tensors.values()))
        """,
        memory_gib=6,
    )
    count = sum(value.numel() for value in make_state().values())
    assert output.split() == [str(len(parts)), str(4 * count)]


@pytest.mark.parametrize("layout", ["transposed", "stepped", "offset", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
def test_strided_tensors_keep_their_values(save: Save, layout: str, dtype: torch.dtype) -> None:
    values = torch.arange(7.0 * DIM).to(dtype)
    weight = {
        "transposed": values.view(DIM, 7).t(),
        "stepped": torch.arange(14.0 * DIM).to(dtype).view(7, 2 * DIM)[:, ::2],
        "offset": torch.arange(9.0 * DIM).to(dtype).view(9, DIM)[2:],
        "channels last": values.view(7, DIM),
    }[layout]
    state = with_classifier(weight, torch.zeros(7, dtype=dtype))
    if layout == "channels last":
        conv = state["patch_embed.conv1.conv.weight"]
        state["patch_embed.conv1.conv.weight"] = conv.to(memory_format=torch.channels_last)
    weights = read_weights(save(state)).tensors
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    assert weights["head.fc.weight"].dtype == dtype


def test_complex_weights_and_empty_classifiers_are_refused(save: Save) -> None:
    state = with_classifier(torch.zeros(7, DIM, dtype=torch.complex64), torch.zeros(7))
    assert "head.fc.weight in" in refusal(save(state))
    assert "has complex numbers" in refusal(save(state))
    state = with_classifier(torch.zeros(2**39, 0), torch.zeros(1).expand(2**39))
    assert "weights, more than 268,435,456" in refusal(save(state))


def test_a_network_without_classes_is_refused(save: Save) -> None:
    variant = VARIANTS["tiny_vit_5m_224"]
    state = {**TinyViT(variant, 1).state_dict(), "head.fc.bias": torch.zeros(0)}
    state["head.fc.weight"] = torch.zeros(0, variant.embed_dims[-1])
    with pytest.raises(CheckpointError, match="has 0 classes"):
        load_checkpoint(save(state))


def repack(source: Path, target: Path, compression: int, zeros_mib: int = 0) -> Path:
    """Pack the entries of an archive again; the first storage can become zeros."""
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(target, "w", compression, compresslevel=1) as new,
    ):
        for name in old.namelist():
            if zeros_mib and name.endswith("/data/0"):
                with new.open(name, "w", force_zip64=True) as entry:
                    for _ in range(zeros_mib):
                        entry.write(bytes(2**20))
            else:
                new.writestr(name, old.read(name))
    return target


def test_an_archive_that_is_packed_is_read(save: Save, tmp_path: Path) -> None:
    path = repack(save(make_state()), tmp_path / "b.pth", zipfile.ZIP_DEFLATED)
    weights = read_weights(path).tensors
    assert all(torch.equal(weights[name], value) for name, value in make_state().items())


@pytest.mark.slow
def test_three_gigabytes_of_packed_zeros_are_refused(save: Save, tmp_path: Path) -> None:
    path = repack(save(make_state()), tmp_path / "b.pth", zipfile.ZIP_DEFLATED, zeros_mib=3072)
    message = refusal(path)
    assert "is refused: it unpacks to 3072 MiB" in message
    assert message.endswith("do not trust this file")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_kinds_of_compression_are_refused(
    save: Save, tmp_path: Path, compression: int
) -> None:
    path = repack(save(make_state()), tmp_path / "b.pth", compression)
    assert "it is packed by another method than deflate" in refusal(path)


@pytest.mark.slow
def test_an_entry_that_states_a_false_size_is_not_unpacked(save: Save, tmp_path: Path) -> None:
    """The list of entries states 100 bytes, and the entry has 200 MiB of packed zeros."""
    path = repack(save(make_state()), tmp_path / "b.pth", zipfile.ZIP_DEFLATED, zeros_mib=200)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"/data/0") - len("weights") - 46
    assert content[start : start + 4] == b"PK\x01\x02"
    content[start + 24 : start + 28] = struct.pack("<I", 100)
    path.write_bytes(content)
    run_limited(
        f"""
        import resource
        from pathlib import Path
        from tinyvit.errors import CheckpointError
        from tinyvit.nn.checkpoints.weight_files import read_weights
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read_weights(Path({str(path)!r}))
        except CheckpointError as error:
            assert "damaged" in str(error), error
        else:
            raise SystemExit("it was accepted")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
        """
    )


def write_sparse(path: Path, start: bytes, size_bytes: int) -> Path:
    """Write a file that begins with these bytes; the rest are zeros that need no disk."""
    path.write_bytes(start)
    os.truncate(path, size_bytes)
    return path


STARTS = {
    "a text of 4 GB": b"\x80\x02X" + struct.pack("<I", 2**32 - 1),
    "bytes of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60),
    "an endless line": b"\x80\x02cfoo",
    "marks": b"\x80\x02" + b"(" * 1000,
    "an archive": b"PK\x03\x04",
    "a header of 2 GB": struct.pack("<Q", 2**31) + b'{"',
    "a header of 2^63": struct.pack("<Q", 2**63) + b'{"',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTS)
def test_files_of_gigabytes_are_not_read_into_memory(tmp_path: Path, name: str) -> None:
    path = write_sparse(tmp_path / "a.pth", STARTS[name], 4 * 2**30)
    run_limited(
        f"""
        from pathlib import Path
        from tinyvit.errors import CheckpointError
        from tinyvit.nn.checkpoints.weight_files import read_weights
        try:
            read_weights(Path({str(path)!r}))
        except CheckpointError:
            pass
        else:
            raise SystemExit("it was accepted")
        """
    )


def test_a_file_of_more_than_four_gigabytes_is_refused(tmp_path: Path) -> None:
    path = write_sparse(tmp_path / "a.pth", b"\x80\x02}.", 5 * 2**30)
    assert "has 5.0 GiB, more than any TinyViT checkpoint" in refusal(path)


def test_a_list_of_weight_files_must_name_files(tmp_path: Path) -> None:
    index = {"weight_map": {"a": 1, "b": 2}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "is not a valid list of weight files" in refusal(tmp_path)


@pytest.mark.parametrize(
    "names",
    [["x" * 120_000_000, *"bcdefg"], "x" * 120_000_000, "a,b,c" + " " * 2_000_000 + "d,e,f,g"],
    ids=["one name", "one text", "spaces"],
)
def test_labels_of_120_megabytes_in_a_checkpoint_are_not_used(save: Save, names: object) -> None:
    path = save({"model": make_state(), "class_names": names})
    labels, _ = find_labels(read_weights(path), 7, path)
    assert labels is None or max(len(label.name) for label in labels) <= 2000


def test_a_long_text_is_no_license(save: Save) -> None:
    state = TinyViT(VARIANTS["tiny_vit_5m_224"], 2).state_dict()
    path = save({"model": state, "license": "x" * 1001})
    assert load_checkpoint(path).license == "unknown"
    path = save({"model": state, "license": "x" * 1000})
    assert load_checkpoint(path).license == "x" * 1000


def test_negative_variances_are_refused(save: Save) -> None:
    state = TinyViT(VARIANTS["tiny_vit_5m_224"], 2).state_dict()
    state["patch_embed.conv1.bn.running_var"][3] = -1e-3
    message = r"contains variances below 0 \(patch_embed\.conv1\.bn\.running_var\)"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(save(state))


def test_a_safetensors_file_may_become_shorter_after_reading(tmp_path: Path) -> None:
    """A file that is mapped into memory would end the process with SIGBUS here."""
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"b": torch.full((1000, 1000), 2.0), "a": torch.ones(3)}, path, {"x": "[1]"})
    content, metadata = read_safetensors(path)
    path.write_bytes(b"")
    assert list(content.root) == ["a", "b"]
    assert content.root["b"].load().sum() == 2_000_000
    assert metadata == {"x": [1]}
    with pytest.raises(CheckpointError, match="damaged or truncated safetensors file"):
        read_safetensors(path)
