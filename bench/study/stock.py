"""Our ONNX file against the stock export of the same weights: timm -> torch.onnx.export -> the same engine.

    python -m tinyvit.bench.study.stock [--variants tiny_vit_5m_224 ...] [--rounds 60]

Prints the README's table. Each pair runs in turn in one process; the ratio is the median over the rounds, below 1 where
ours is faster. Needs timm and torchvision beside tinyvit-edge[export,openvino].
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tinyvit.bench.latency.turns import alternate, median_ratio
from tinyvit.bench.machine import cpu_facts
from tinyvit.bench.peers import check_installed, stock_export, stock_model
from tinyvit.cli import guarded, parser
from tinyvit.errors import ArtifactError
from tinyvit.runtimes.base import Options
from tinyvit.runtimes.registry import open_runtime
from tinyvit.variants import VARIANTS

_DEFAULT = ("tiny_vit_5m_224", "tiny_vit_21m_224", "tiny_vit_21m_512")
_EXAMPLES = """\
  python -m tinyvit.bench.study.stock
  python -m tinyvit.bench.study.stock --variants tiny_vit_5m_224 --rounds 200"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = parser("python -m tinyvit.bench.study.stock", "Our export against the stock one, as ratios of alternating medians.", _EXAMPLES)
    made.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=list(_DEFAULT), metavar="V")
    made.add_argument("--rounds", type=int, default=60, help="turns of each, of five timed runs; default 60")
    made.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    options = made.parse_args(argv)
    return guarded(lambda: _table(options))


def _table(options: argparse.Namespace) -> int:
    check_installed()
    print(f"{cpu_facts()}; {options.threads} threads, float32, batch 1, up to {options.rounds} alternating turns of 5 runs\n")
    print("| variant | engine | stock ms | ours ms | ours / stock |\n|---|---|---|---|---|", flush=True)
    for variant in options.variants:
        with tempfile.TemporaryDirectory() as folder:
            stock, ours = make_pair(variant, Path(folder))
            for engine in ("onnxruntime", "openvino"):
                print(_row(variant, engine, stock, ours, options), flush=True)
    return 0


def make_pair(variant: str, folder: Path) -> tuple[Path, Path]:
    """The stock export of seeded weights, and tinyvit-export's of the same ones."""
    from safetensors.torch import save_file

    model = stock_model(variant)
    stock, ours, weights = folder / "stock.onnx", folder / "ours.onnx", folder / "weights.safetensors"
    stock_export(model, VARIANTS[variant].img_size, stock)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    command = [sys.executable, "-m", "tinyvit.export.cli", "--checkpoint", str(weights), "--target", "onnx", "-o", str(ours)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ArtifactError("our own export failed", done.stderr.strip().splitlines()[-1])
    return stock, ours


def _row(variant: str, engine: str, stock: Path, ours: Path, options: argparse.Namespace) -> str:
    size = VARIANTS[variant].img_size
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    with ExitStack() as stack:
        theirs, mine = (stack.enter_context(open_runtime(path, engine, Options(threads=options.threads))) for path in (stock, ours))
        difference = float(np.abs(theirs.run(image) - mine.run(image)).max())
        if difference > 1e-3:
            raise ArtifactError(f"the two exports of {variant} are not the same network (logits differ by {difference:.2g})", "report this")
        runs = {"stock": lambda: theirs.run(image), "ours": lambda: mine.run(image)}
        times = alternate(runs, rounds=options.rounds, warmup=3, block=6, budget_s=90)
    ratio = median_ratio(times["ours"], times["stock"])
    return f"| {variant} | {engine} | {times['stock'].median_ms:.1f} | {times['ours'].median_ms:.1f} | {ratio:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
