"""tinyvit-export: a checkpoint in, artifacts out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import RequestError, TinyViTError
from tinyvit.export import targets
from tinyvit.variants import DEFAULT_MODEL, RELEASED, VARIANTS, Released

if TYPE_CHECKING:
    from tinyvit.quant.quantizer import QuantizationConfig

_EXAMPLES = """\
  tinyvit-export --model demo --target onnx
  tinyvit-export --checkpoint my_finetune.pth --labels classes.txt --target onnx openvino -o out/
  tinyvit-export --model demo --int8 --calib-data photos/ -o demo_int8.onnx"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(argv)
    return run_guarded(lambda: _list(options.json) if options.list else _export(options))


def _parser() -> argparse.ArgumentParser:
    made = make_parser(
        "tinyvit-export", "Make a TinyViT checkpoint into a file for an edge device.", _EXAMPLES
    )
    source = made.add_argument_group("what to export").add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        metavar="NAME",
        help=f"a released checkpoint (see --list), or demo; default {DEFAULT_MODEL}",
    )
    source.add_argument(
        "--checkpoint", metavar="FILE", help=".safetensors or .pth, the paper's or timm's layout"
    )
    source.add_argument(
        "--list", action="store_true", help="print the released checkpoints and exit"
    )
    known = (
        f"{one.name} ({', '.join(one.aliases)})" if one.aliases else one.name
        for one in map(targets.get_target, targets.target_names())
    )
    made.add_argument(
        "--target",
        nargs="+",
        default=["onnx"],
        metavar="T",
        help=f"{', '.join(known)}; several, or all; default onnx",
    )
    made.add_argument(
        "--img-size",
        type=int,
        metavar="N",
        help="another image size, a multiple of 32; attention biases are interpolated",
    )
    batch = made.add_mutually_exclusive_group()
    batch.add_argument(
        "--batch", type=int, default=1, metavar="N", help="images in one call, fixed; default 1"
    )
    batch.add_argument(
        "--dynamic-batch", action="store_true", help="leave the number of images open"
    )
    made.add_argument(
        "--preprocess",
        choices=("host", "normalize", "full"),
        default="host",
        help="what goes into the file: nothing (host), mean and std (normalize), resize and crop too (full)",
    )
    made.add_argument(
        "--labels",
        metavar="FILE",
        help="names, one a line, in the classifier's order; or a CSV/TSV/JSON (see README)",
    )
    made.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="one target: a file, or a folder that exists; several or all: a folder, made where there is none; default: this folder",
    )
    made.add_argument(
        "--float16",
        action="store_true",
        help="16 bits: half the size, and faster where the processor has bf16 or f16",
    )
    _add_int8(made)
    _add_targets(made)
    made.add_argument("--opset", type=int, metavar="N", help="ONNX opset, 18 to 23; default 20")
    made.add_argument("--overwrite", action="store_true", help="replace existing files")
    made.add_argument(
        "--json", action="store_true", help="one JSON record on stdout, and nothing else there"
    )
    made.add_argument("-v", "--verbose", action="store_true", help="show the traceback of an error")
    return made


def _add_int8(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("int8")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--int8",
        action="store_true",
        help="quantize, and measure what it costs; the other options here need it",
    )
    either.add_argument(
        "--int8-weights-only",
        action="store_true",
        help="the weights alone: a quarter of the size, 0 to 30%% slower",
    )
    group.add_argument(
        "--calib-data",
        metavar="DATA",
        help="folder of images or class folders, list file, .npz, or synthetic (default)",
    )
    group.add_argument(
        "--calib-count", type=int, metavar="N", help="calibration images; default 256, synthetic 32"
    )
    group.add_argument("--calib-seed", type=int, metavar="N", help="which of them; default 0")
    group.add_argument(
        "--recipe",
        metavar="FILE",
        help="take the quantization from here, or write it here where there is no such file",
    )
    group.add_argument(
        "--val-data", metavar="DIR", help="class folders, to measure the drop in top-1 on"
    )
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="top-1 that may be lost on --val-data; default 0.5",
    )
    group.add_argument(
        "--min-agreement",
        type=float,
        metavar="PERCENT",
        help="without --val-data: same top-1 as float32; default 98.5",
    )
    group.add_argument(
        "--min-speedup",
        type=float,
        metavar="X",
        help="refuse where int8 is not X times as fast as float32 on this machine",
    )
    group.add_argument(
        "--cpu",
        choices=("any", "vnni"),
        help="any (default): right on every processor; vnni: 8-bit weights, which need it",
    )
    group.add_argument(
        "--force",
        action="store_true",
        default=None,
        help="write the file even where the budget is missed, marked",
    )


def _add_targets(made: argparse.ArgumentParser) -> None:
    """A group for each target that has options of its own; for others they are refused."""
    for target in map(targets.get_target, targets.target_names()):
        if target.options:
            group = made.add_argument_group(f"--target {target.name}")
            for option in target.options:
                group.add_argument(
                    option.flag,
                    choices=option.choices,
                    metavar=None if option.choices else "VALUE",
                    help=option.help,
                )


def _of_targets(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the targets' own options, by name."""
    known = [
        option.name
        for target in map(targets.get_target, targets.target_names())
        for option in target.options
    ]
    return {name: getattr(options, name) for name in known if getattr(options, name) is not None}


def _int8(options: argparse.Namespace) -> QuantizationConfig | None:
    """The request for int8; raises RequestError where its options are given without it."""
    from tinyvit.quant.accuracy_budget import AccuracyBudget
    from tinyvit.quant.quantizer import QuantizationConfig

    names = (
        "calib_data",
        "calib_count",
        "calib_seed",
        "recipe",
        "val_data",
        "min_speedup",
        "cpu",
        "force",
        "max_drop",
        "min_agreement",
    )
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if not options.int8 and not options.int8_weights_only:
        if given:
            raise RequestError(
                f"--{next(iter(given)).replace('_', '-')} is an option of --int8",
                "add --int8, or leave it out",
            )
        return None
    if options.max_drop is not None and options.val_data is None:
        raise RequestError(
            "--max-drop needs classes to count right answers by",
            "give --val-data, or --min-agreement instead",
        )
    if options.min_agreement is not None and options.val_data is not None:
        raise RequestError(
            "--min-agreement is for images whose classes nobody knows",
            "give --max-drop, or leave out --val-data",
        )
    budget = AccuracyBudget(
        **{name: given.pop(name) for name in ("max_drop", "min_agreement") if name in given}
    )
    given.update({name: Path(given[name]) for name in ("recipe", "val_data") if name in given})
    return QuantizationConfig(**given, budget=budget, weights_only=options.int8_weights_only)


def _export(options: argparse.Namespace) -> int:
    from tinyvit.export.pipeline import export
    from tinyvit.export.report import failure, record, summary
    from tinyvit.export.tracing import DEFAULT_OPSET

    if options.model is None and options.checkpoint is None:
        print(f"no --model and no --checkpoint: taking {DEFAULT_MODEL}", file=sys.stderr)
    try:
        made, failed = export(
            options.model,
            options.checkpoint,
            target=options.target,
            img_size=options.img_size,
            batch=options.batch,
            dynamic_batch=options.dynamic_batch,
            preprocess=options.preprocess,
            labels=options.labels,
            output=options.output,
            opset=DEFAULT_OPSET if options.opset is None else options.opset,
            overwrite=options.overwrite,
            float16=options.float16,
            int8=_int8(options),
            options=_of_targets(options),
            progress=lambda stage: print(f"  {stage} ...", file=sys.stderr, flush=True),
        )
    except TinyViTError:
        if options.verbose:
            import traceback

            traceback.print_exc()
        raise
    if options.json:
        print(
            json.dumps(
                {
                    "artifacts": [record(one) for one in made],
                    "not_made": [failure(one) for one in failed],
                }
            )
        )
    else:
        for one in made:
            print(summary(one))
    for one_failed in failed:
        print(f"not made: {one_failed.target} ({one_failed.error})", file=sys.stderr)
    return (
        1
        if any(not one_failed.absent or "all" not in options.target for one_failed in failed)
        else 0
    )


def _list(as_json: bool) -> int:
    if as_json:
        print(json.dumps({"models": [_listed(released) for released in RELEASED.values()]}))
        return 0
    print("architectures (parameters and MACs for 1000 classes)")
    print(
        f"  {'name':17} {'short name':17} {'dims':19} {'depths':11} {'heads':13} {'windows':13} {'params':>7} {'MACs':>7}"
    )
    for v in VARIANTS.values():
        dims, depths, heads, window = (
            ",".join(map(str, row)) for row in (v.embed_dims, v.depths, v.num_heads, v.window_sizes)
        )
        print(
            f"  {v.name:17} {v.short_name:17} {dims:19} {depths:11} {heads:13} {window:13} {v.params / 1e6:6.1f}M {v.macs / 1e9:6.2f}G"
        )
    print("\nreleased checkpoints (top-1 and top-5 in percent, as published)")
    how = {name: _evaluation(released) for name, released in RELEASED.items()}
    width = max(map(len, how.values()))
    print(
        f"  {'name':38} {'classes':>7} {'top-1':>6} {'top-5':>6}  {'evaluation':{width}} {'license':10} hub"
    )
    for name, released in RELEASED.items():
        top1, top5 = (
            f"{figure:.1f}" if figure is not None else "-"
            for figure in (released.top1, released.top5)
        )
        print(
            f"  {name:38} {released.num_classes:>7} {top1:>6} {top5:>6}  {how[name]:{width}} {released.license:10} {released.hub_id}"
        )
    print(
        "\nA short name stands for dist_in22k_ft_in1k. Also: demo, a 5M of ten ImageNet classes that is part of the package."
    )
    return 0


def _evaluation(released: Released) -> str:
    p = released.preprocess
    return f"{p.crop} {p.resize} -> {p.size}, {p.interpolation}"


def _listed(released: Released) -> dict[str, Any]:
    return {
        **asdict(released),
        "preprocess": asdict(released.preprocess),
        "paper_preprocess": asdict(released.paper_preprocess),
    }


if __name__ == "__main__":
    sys.exit(main())
