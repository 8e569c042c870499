"""If one of several processes is killed, Ray completes the store and torchrun the training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.distill_data import TEACHER
from tinyvit.distill.logits.save import save_logits
from tinyvit.distill.logits.store import Store
from tinyvit.distill.logits.teacher_predictions import LogitsRequest
from tinyvit.nn.checkpoints.loading import load_checkpoint

pytestmark = pytest.mark.slow


def test_a_cluster_that_loses_a_worker_writes_the_same_store(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    once = tmp_path / "killed"
    teacher = tmp_path / "teacher.py"
    teacher.write_text(
        f"""
import importlib.util, os, pathlib, signal, sys
spec = importlib.util.spec_from_file_location("teachers", {TEACHER.rpartition(":")[0]!r})
teachers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(teachers)

def small():
    once = pathlib.Path({str(once)!r})
    is_worker = os.environ.get("RAY_JOB_ID") or "default_worker" in " ".join(sys.argv)
    if is_worker:
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return teachers.small()
"""
    )
    request = LogitsRequest(
        image_folder,
        (f"{teacher}:small",),
        2,
        tmp_path / "s",
        top_k=5,
        size=32,
        batch=5,
        precision="float32",
        ray_address="",
    )
    cluster_store = save_logits(request)
    assert once.exists(), "no worker was killed"
    for epoch in range(2):
        ours, theirs = cluster_store.read_epoch(epoch)[:], store.read_epoch(epoch)[:]
        assert ours["classes"].tolist() == theirs["classes"].tolist()
        assert ours["seed"].tolist() == theirs["seed"].tolist()
        assert (
            abs(ours["probabilities"].astype(float) - theirs["probabilities"].astype(float)).max()
            < 1e-3
        )


def test_torchrun_goes_on_when_a_process_is_killed(
    store: Store, image_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    once = tmp_path / "killed"
    script.write_text(
        f"""
import os, pathlib, signal, sys
from tinyvit.distill.cli import main
from tinyvit.distill.training import trainer

real, once = trainer.TrainingRun.step, pathlib.Path({str(once)!r})

def step(run, batch, rate):
    if run.state.step == 4 and run.processes.rank == 1 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(run, batch, rate)

trainer.TrainingRun.step = step
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        str(script),
    ]
    command += [
        "train",
        "--student",
        "tiny_vit_5m_224",
        "--data",
        image_folder,
        "--val-data",
        image_folder,
        "--logits",
        store.folder,
        "--img-size",
        "32",
    ]
    command += [
        "--batch",
        "4",
        "--epochs",
        "2",
        "--set",
        'precision="float32"',
        "--set",
        "warmup_epochs=0",
        "--workers",
        "0",
    ]
    done = subprocess.run(
        [*map(str, command), "-o", str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert once.exists(), "no process was killed"
    assert "resuming after step 3 of 6" in done.stderr
    assert "has lost its connection to another" in done.stderr
    assert "report this" not in done.stderr
    checkpoint = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert all(
        bool(torch.isfinite(value.float()).all()) for value in checkpoint.state_dict.values()
    )


def test_processes_and_parts_train_like_one_process(image_folder: Path, tmp_path: Path) -> None:
    """Two processes with two parts each and stochastic depth; BatchNorm is frozen."""
    command = ["-m", "tinyvit.distill.cli", "train", "--student", "tiny_vit_5m_224"]
    command += ["--data", str(image_folder), "--img-size", "32", "--batch", "8", "--epochs", "2"]
    for setting in (
        'precision="float32"',
        "warmup_epochs=0",
        "frozen_batchnorm=true",
        "drop_path=0.2",
        "lr=1e-3",
    ):
        command += ["--set", setting]
    command += ["--workers", "0"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in (
        ("one", [*command, "--accumulation", "1"]),
        ("two", [*launch, *command, "--accumulation", "2"]),
    ):
        done = subprocess.run(
            [sys.executable, *start, "-o", str(tmp_path / name)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (
        load_checkpoint(tmp_path / name / "last.safetensors").state_dict for name in ("one", "two")
    )
    # AdamW's first steps have the size of the learning rate, whatever the size of the gradient. So
    # rounding can move a weight whose gradient is almost 0, and only the mean is compared.
    for name, value in one.items():
        difference = (two[name].float() - value.float()).abs().mean()
        assert difference <= 2e-5, name


def test_all_processes_stop_early(image_folder: Path, tmp_path: Path) -> None:
    """Only the first process knows the accuracies. The rate is too low to change them."""
    command = ["-m", "tinyvit.distill.cli", "train", "--student", "tiny_vit_5m_224"]
    command += ["--data", str(image_folder), "--img-size", "32", "--batch", "4", "--epochs", "9"]
    command += ["--val-split", "0.25", "--balance", "--patience", "1", "--workers", "0"]
    for setting in (
        'precision="float32"',
        "warmup_epochs=0",
        "frozen_batchnorm=true",
        "lr=1e-12",
        "warmup_lr=0",
        "min_lr=0",
    ):
        command += ["--set", setting]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, *command, "-o", str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the run stopped after epoch 2 of 9, because --patience 1" in done.stderr
