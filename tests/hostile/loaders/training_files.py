"""Hostile settings of a training, folders of training runs, and recipes of a quantization."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.hostile_files import HostileFile, Loader, make_file
from tests.hostile.loaders.torch_checkpoints import mutate as mutate_torch
from tests.hostile.mutations import mutate_bytes, mutate_json
from tests.hostile.special_files import make_special, yield_special_files
from tests.hostile.torch_records import (
    EXTREME_VALUES,
    Call,
    Name,
    Storage,
    make_tensor,
    write_archive,
    write_pickle,
)
from tinyvit.distill.training.config import TrainingConfig, apply_overrides, read_config
from tinyvit.distill.training.presets import select_drop_path_rate
from tinyvit.distill.training.run import folder as run_folder
from tinyvit.distill.training.run.folder import (
    STATE_FILE,
    TrainingState,
    load_state,
    open_run_folder,
    save_state,
)
from tinyvit.distill.training.run.history import EpochSummary, draw_history
from tinyvit.distill.training.run.toml_files import format_toml
from tinyvit.privacy import use_temporary_caches
from tinyvit.quant.recipe import Recipe, read_recipe
from tinyvit.text.safe_text import print_lines
from tinyvit.variants import VARIANTS

_CONFIG = TrainingConfig(preset="scratch-1k", epochs=3, batch=8, drop_path=0.1, ema_decay=0.99)
_RUN = {"student": "tiny_vit_5m_224", "img_size": 224, "versions": {"torch": "2"}}
_RECIPE = Recipe("a" * 64, 224, {"a:in": 0.5, "b:out": 1.0}, 7, ("a",), "method", "b" * 64, 8)
_STEPS = 10


def _make_parts() -> dict[str, Any]:
    """Return a small network and its optimizer after one step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def _make_run(folder: Path) -> Path:
    """Write the folder of an interrupted run."""
    folder.mkdir()
    open_run_folder(folder, _RUN, _CONFIG, overwrite=False)
    history = [EpochSummary(1.5, 1e-4, 50.0, 3.0)]
    save_state(folder, TrainingState(12, 2.5, 50.0, 1.0, history), _make_parts())
    return folder


def resume_run(path: Path) -> None:
    """Read the folder of a run as a training that continues does."""
    with pytest.MonkeyPatch.context() as patch:
        # A run that continues with another patience has it in its file, which would be a change.
        patch.setattr(run_folder, "write_atomically", lambda file, text: None)
        open_run_folder(path, _RUN, _CONFIG, overwrite=False)
    if not (path / STATE_FILE).is_file():
        return
    with use_temporary_caches():
        state = load_state(path, _make_parts(), "cpu", _STEPS, _CONFIG.epochs)
    print_lines(f"resuming after step {state.step}, {state.loss_sum + 1:.3f}, {state.seconds:.1f}")
    draw_history([*state.history, EpochSummary(1.0, 1e-4, 1.0, 1.0)], Path("curves.png"))


def make_runs(folder: Path) -> Sequence[Path]:
    """Make the folder of a run."""
    return [_make_run(folder / "run")]


def read_settings(path: Path) -> None:
    """Read settings of a training, and use them as far as no data are needed."""
    config = apply_overrides(read_config(path), {"epochs": 2})
    print_lines(str(select_drop_path_rate(config, VARIANTS["tiny_vit_5m_224"])))
    format_toml({"training": asdict(config)})


def make_settings(folder: Path) -> Sequence[Path]:
    """Make a file of settings."""
    (folder / "a.toml").write_text(format_toml({"run": _RUN, "training": asdict(_CONFIG)}))
    return [folder / "a.toml"]


def mutate_toml(data: bytes, generator: random.Random) -> bytes:
    """Replace the value of a key by an extreme one, or remove or repeat the line."""
    lines = data.decode().split("\n")
    number = generator.randrange(len(lines))
    key, equals, _ = lines[number].partition(" = ")
    values = (
        "nan",
        "-inf",
        "1e308",
        "true",
        '""',
        "[]",
        "{}",
        "9" * 400,
        "-1",
        "0",
        "0x1_0",
        "1e-400",
    )
    values += ("9223372036854775807", "1979-05-27", '"\\u001b[2J"', "'paper'", "[[1]]", "[nan]")
    changes = [f"{key}{equals}{generator.choice(values)}"] * 4
    changes += ["", lines[number] + "\n" + lines[number], f"x{lines[number]}"]
    lines[number] = generator.choice(changes)
    changed = "\n".join(lines).encode()
    return changed if changed != data else mutate_bytes(data, generator)


def mutate_run(data: bytes, generator: random.Random) -> bytes:
    """Mutate the settings, or the pickle of the state."""
    if not data.startswith(b"PK"):
        return mutate_toml(data, generator)
    with zipfile.ZipFile(__import__("io").BytesIO(data)) as archive:
        content = archive.namelist()
    return (
        mutate_torch(data, generator) if "a/data.pkl" in content else mutate_bytes(data, generator)
    )


_TOMLS = {
    "a long dotted key": "a" + ".a" * 400_000 + " = 1",
    "many dotted keys": "".join(f"a{i}" + ".a" * 500 + " = 1\n" for i in range(900)),
    "a long header": "[a" + ".a" * 400_000 + "]",
    "many headers": "".join(f"[a{i}" + ".a" * 200 + "]\n" for i in range(2000)),
    "many tables": "[[a]]\n" * 150_000,
    "many keys": "".join(f"a{i} = 1\n" for i in range(90_000)),
    "deep arrays": "a = " + "[" * 500_000,
    "deep tables": "a = " + "{a = " * 200_000,
    "a long number": "a = " + "9" * 10**6,
    "a long float": "a = 1." + "9" * 10**6,
    "a long hexadecimal number": "[training]\npreset = 0x" + "f" * 10**6,
    "a long text": 'a = "' + "\\u0061" * 170_000 + '"',
    "a long multi-line text": 'a = """' + "\\\n  " * 250_000 + '"""',
    "quotes": 'a = """' + '"' * 10**6,
    "dots": "a = 1" + "." * 10**6,
    "spaces": "a" + " " * 10**6 + "= 1",
    "underscores": "a = 1" + "_1" * 500_000,
    "dates": "a = [" + "1979-05-27T07:32:00.999999," * 35_000 + "]",
    "controls": 'a = "\x1b[2J"',
    "no table": "training = 5",
    "a list": "[[training]]\na = 1",
    "a table": "[training.preset]\na = 1",
    "a hostile key": '[training]\n"\\u001b[2J\\u202e" = 1',
    "a hostile text": '[training]\npreset = "\\u001b[2J\\u202e"',
    "the run is a number": "run = 5\ntraining = []",
    "not UTF-8": "a = '\udcff'",
}


def craft_settings(generator: random.Random) -> Iterator[HostileFile]:
    """Yield long, deep and wrong TOML, and special files."""
    for description, text in _TOMLS.items():
        yield make_file("a.toml", description, text.encode("utf-8", "surrogateescape"))
    yield from yield_special_files("a.toml")
    names = ("a.\x1b[2J", "\udcff.toml", "a\n.toml")
    for name in names:
        yield make_file(name, f"the file name {name!r}", b"[")


def craft_runs(generator: random.Random) -> Iterator[HostileFile]:
    """Yield runs with other settings, and with hostile states."""
    for description, text in _TOMLS.items():
        data = text.encode("utf-8", "surrogateescape")
        yield HostileFile(description, partial(_write_run, "run.toml", data))
    for name in ("run.toml", STATE_FILE):
        for kind in ("pipe", "/dev/zero", name, "missing", "/", "/proc/kmsg"):
            yield HostileFile(f"{name} is {kind}", partial(_write_link, name, kind))
    summary = {"loss": 1.5, "learning_rate": 1e-4, "top1": 50.0, "seconds": 3.0}
    progress = {
        "step": 12,
        "loss_sum": 2.5,
        "best_top1": 50.0,
        "seconds": 1.0,
        "history": [summary],
    }
    parts = {name: part.state_dict() for name, part in _make_parts().items()}
    for value in EXTREME_VALUES:
        field = generator.choice(list(progress))
        content = {"progress": {**progress, field: value}, **parts}
        yield _state(f"{field} {value!r:.30}", content)
        inner = {**summary, generator.choice(list(summary)): value}
        yield _state(
            f"summary {value!r:.30}", {"progress": {**progress, "history": [inner]}, **parts}
        )
        key = generator.choice(("progress", "model", "optimizer"))
        yield _state(f"{key} {value!r:.30}", {"progress": progress, **parts, key: value})
    yield _state("10^6 epochs", {"progress": {**progress, "history": [summary] * 10**6}, **parts})
    large = make_tensor(Storage(torch.DoubleStorage, "0", 1), 0, (2**36,), (0,))
    for key in ("model", "optimizer", "progress", "other"):
        content = {"progress": progress, **parts, key: {"0.weight": large, "state": {0: large}}}
        yield _record(f"a tensor of 2^36 elements in {key}", content)
    array = Call(Name("builtins", "bytearray"), 2**34)
    yield _record("an array of 16 GiB", {"progress": array})
    yield _record("a call", {"progress": Call(Name("os", "system"), "touch CANARY")})
    zeros = write_archive(write_pickle({"a": large}), {"0": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    yield HostileFile("packed zeros", partial(_write_run, STATE_FILE, zeros))


def _write_run(name: str, data: bytes, folder: Path) -> Path:
    run = _make_run(folder / "run")
    (run / name).write_bytes(data)
    return run


def _write_link(name: str, kind: str, folder: Path) -> Path:
    run = _make_run(folder / "run")
    (run / name).unlink()
    make_special(run / name, kind)
    return run


def _state(description: str, content: Any) -> HostileFile:
    def write(folder: Path) -> Path:
        run = _make_run(folder / "run")
        torch.save(content, run / STATE_FILE)
        return run

    return HostileFile(description, write)


def _record(description: str, content: Any) -> HostileFile:
    def write(folder: Path) -> Path:
        data = write_archive(write_pickle(content), {"0": bytes(64)})
        return _write_run(STATE_FILE, data, folder)

    return HostileFile(description, write)


def make_recipes(folder: Path) -> Sequence[Path]:
    """Make a recipe."""
    _RECIPE.save(folder / "recipe.json")
    return [folder / "recipe.json"]


def load_recipe(path: Path) -> None:
    """Read a recipe, and write it again."""
    recipe = read_recipe(path)
    recipe.save(Path("copy.json"))
    assert read_recipe(Path("copy.json")) == recipe


def craft_recipes(generator: random.Random) -> Iterator[HostileFile]:
    """Yield recipes with extreme fields."""
    fields = json.loads(_RECIPE.to_json())
    for value in EXTREME_VALUES:
        if isinstance(value, bytes):
            continue
        for field in generator.sample(sorted(fields), 4):
            data = json.dumps({**fields, field: value}).encode()
            yield make_file("a.json", f"{field} {value!r:.30}", data)
        scales = {HOSTILE_TEXT: 1.0, "a": value}
        data = json.dumps({**fields, "scales": scales}).encode()
        yield make_file("a.json", f"a scale {value!r:.30}", data)
    for text in (
        "[" * 10**6,
        "[" + "[]," * 10**6 + "[]]",
        "[" + "9" * 10**6,
        '{"format": 5',
        "",
        "\0",
    ):
        yield make_file("a.json", f"{text:.20}", text.encode())
    yield from yield_special_files("a.json")


LOADERS = (
    Loader("training: settings", read_settings, make_settings, craft_settings, mutate=mutate_toml),
    Loader("training: run", resume_run, make_runs, craft_runs, mutate=mutate_run),
    Loader("int8: recipe", load_recipe, make_recipes, craft_recipes, mutate=mutate_json),
)
