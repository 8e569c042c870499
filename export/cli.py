"""tinyvit-export: a checkpoint in, artifacts out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinyvit.cli import guarded, parser
from tinyvit.errors import TinyViTError
from tinyvit.variants import DEFAULT_MODEL, RELEASED, VARIANTS, Released

if TYPE_CHECKING:
    from tinyvit.export.pipeline import Exported, Failed

_EXAMPLES = """\
  tinyvit-export --model demo --target onnx
  tinyvit-export --checkpoint my_finetune.pth --labels classes.txt --target onnx openvino -o out/"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(argv)
    return guarded(lambda: _list(options.json) if options.list else _export(options))


def _parser() -> argparse.ArgumentParser:
    made = parser("tinyvit-export", "Make a TinyViT checkpoint into a file for an edge device.", _EXAMPLES)
    source = made.add_argument_group("what to export").add_mutually_exclusive_group()
    source.add_argument("--model", metavar="NAME", help=f"a released checkpoint (see --list), or demo; default {DEFAULT_MODEL}")
    source.add_argument("--checkpoint", metavar="FILE", help=".safetensors or .pth, the paper's or timm's layout")
    source.add_argument("--list", action="store_true", help="print the released checkpoints and exit")
    made.add_argument("--target", nargs="+", default=["onnx"], metavar="T", help="onnx, openvino (ov), several, or all; default onnx")
    made.add_argument("--img-size", type=int, metavar="N", help="another image size, a multiple of 32; attention biases are interpolated")
    batch = made.add_mutually_exclusive_group()
    batch.add_argument("--batch", type=int, default=1, metavar="N", help="images in one call, fixed; default 1")
    batch.add_argument("--dynamic-batch", action="store_true", help="leave the number of images open")
    made.add_argument(
        "--preprocess",
        choices=("host", "normalize", "full"),
        default="host",
        help="what goes into the file: nothing (host), mean and std (normalize), resize and crop too (full)",
    )
    made.add_argument("--labels", metavar="FILE", help="names, one a line, in the classifier's order; or a CSV/TSV/JSON (see README)")
    made.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="one target: a file, or a folder that exists; several or all: a folder, made where there is none; default: this folder",
    )
    made.add_argument("--opset", type=int, metavar="N", help="ONNX opset, 18 to 23; default 20")
    made.add_argument("--overwrite", action="store_true", help="replace existing files")
    made.add_argument("--json", action="store_true", help="one JSON record on stdout, and nothing else there")
    made.add_argument("-v", "--verbose", action="store_true", help="show the traceback of an error")
    return made


def _export(options: argparse.Namespace) -> int:
    from tinyvit.export.graph import DEFAULT_OPSET
    from tinyvit.export.pipeline import export

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
            progress=lambda stage: print(f"  {stage} ...", file=sys.stderr, flush=True),
        )
    except TinyViTError:
        if options.verbose:
            import traceback

            traceback.print_exc()
        raise
    if options.json:
        print(json.dumps({"artifacts": [_record(one) for one in made], "not_made": [_failure(one) for one in failed]}))
    else:
        for one in made:
            print(_summary(one))
    for failure in failed:
        print(f"not made: {failure.target}: {failure.error}", file=sys.stderr)
    return 1 if failed and "all" not in options.target else 0


def _summary(one: Exported) -> str:
    manifest, parity, engine = one.manifest, one.manifest.parity, one.engine["engine"]
    assert parity is not None
    classes, images = len(manifest.labels), manifest.output.shape[0]
    batch = f" for {images} images" if isinstance(images, int) and images > 1 else ""
    ours, torchs = one.engine_ms.median_ms, one.torch_ms.median_ms
    runs = f"medians of {len(one.engine_ms.samples_ms)} and {len(one.torch_ms.samples_ms)} runs in turn, one thread each"
    return "\n".join(
        (
            f"wrote {' and '.join(map(str, one.files))} ({one.size_bytes / 1e6:.1f} MB)",
            f"  model: {manifest.model}, {manifest.precision}, {manifest.img_size} x {manifest.img_size}, {classes} classes",
            f"  speed: {ours:.1f} ms{batch} in {engine}, {torchs / ours:.1f}x as fast as eager torch ({torchs:.1f} ms; {runs})",
            f"  equal: logits within {parity.max_abs_diff:.1e} of {parity.against}",
            f"  use:   from tinyvit import Classifier; print(Classifier({str(one.path)!r}).predict('photo.jpg'))",
        )
    )


def _record(one: Exported) -> dict[str, Any]:
    manifest, parity = one.manifest, one.manifest.parity
    assert parity is not None
    return {
        "artifact": str(one.path),
        "files": [str(file) for file in one.files],
        "size_bytes": one.size_bytes,
        "target": manifest.target,
        "precision": manifest.precision,
        "model": manifest.model,
        "variant": manifest.variant,
        "img_size": manifest.img_size,
        "classes": len(manifest.labels),
        "engine": one.engine,
        "median_ms": round(one.engine_ms.median_ms, 3),
        "samples": len(one.engine_ms.samples_ms),
        "torch_median_ms": round(one.torch_ms.median_ms, 3),
        "torch_samples": len(one.torch_ms.samples_ms),
        "max_abs_diff": parity.max_abs_diff,
        "content_sha256": manifest.content_sha256,
    }


def _failure(failure: Failed) -> dict[str, str]:
    return {"target": failure.target, "error": str(failure.error)}


def _list(as_json: bool) -> int:
    if as_json:
        print(json.dumps({"models": [_listed(released) for released in RELEASED.values()]}))
        return 0
    print("architectures (parameters and MACs for 1000 classes)")
    print(f"  {'name':17} {'short name':17} {'dims':19} {'depths':11} {'heads':13} {'windows':13} {'params':>7} {'MACs':>7}")
    for v in VARIANTS.values():
        dims, depths, heads, window = (",".join(map(str, row)) for row in (v.embed_dims, v.depths, v.num_heads, v.window_sizes))
        print(f"  {v.name:17} {v.short_name:17} {dims:19} {depths:11} {heads:13} {window:13} {v.params / 1e6:6.1f}M {v.macs / 1e9:6.2f}G")
    print("\nreleased checkpoints (top-1 and top-5 in percent, as published)")
    how = {name: _evaluation(released) for name, released in RELEASED.items()}
    width = max(map(len, how.values()))
    print(f"  {'name':38} {'classes':>7} {'top-1':>6} {'top-5':>6}  {'evaluation':{width}} {'licence':10} hub")
    for name, released in RELEASED.items():
        top1, top5 = (f"{figure:.1f}" if figure is not None else "-" for figure in (released.top1, released.top5))
        print(f"  {name:38} {released.num_classes:>7} {top1:>6} {top5:>6}  {how[name]:{width}} {released.licence:10} {released.hub_id}")
    print("\nA short name stands for dist_in22k_ft_in1k. Also: demo, a 5M of ten ImageNet classes that is part of the package.")
    return 0


def _evaluation(released: Released) -> str:
    p = released.preprocess
    return f"{p.crop} {p.resize} -> {p.size}, {p.interpolation}"


def _listed(released: Released) -> dict[str, Any]:
    return {**asdict(released), "preprocess": asdict(released.preprocess), "paper_preprocess": asdict(released.paper_preprocess)}


if __name__ == "__main__":
    sys.exit(main())
