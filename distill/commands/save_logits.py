"""The subcommand `save-logits`: save a teacher's predictions in a folder, which is called a store.

The teacher is the network that students learn from. It predicts the classes of views, which are
augmented versions of the images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import explain_interrupt, positive_int
from tinyvit.openmp import add_threads_argument, set_thread_count
from tinyvit.progress import make_progress
from tinyvit.text.plurals import format_count
from tinyvit.text.safe_text import print_lines

if TYPE_CHECKING:
    from tinyvit.distill.logits.store import Store

HELP = (
    "fill a store, which is a folder of a teacher's predictions for views (augmented versions of "
    "images); after an interruption, the same command continues"
)
EXAMPLES = """\
  tinyvit-distill save-logits --data photos/ --teacher tinyvit_21m.onnx --epochs 30 -o store/
  tinyvit-distill save-logits --data photos/ --teacher timm:resnet50.a1_in1k \\
      --teacher teacher.py:make_teacher --epochs 30 --top-k 10 -o store/
  tinyvit-distill save-logits --data photos/ --teacher tinyvit_21m.onnx --epochs 30 -o store/ \\
      --ray head:6379"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of images, with or without class folders",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        required=True,
        metavar="TEACHER",
        help="a TinyViT checkpoint, an artifact from tinyvit-export, the name of a released "
        "checkpoint (such as tinyvit_21m, or demo for the packaged demo model), timm:NAME for a "
        "timm model, or FILE.py:FUNCTION for a function that returns a PyTorch module; repeat the "
        "option to average several teachers",
    )
    parser.add_argument(
        "--epochs",
        type=positive_int,
        required=True,
        metavar="N",
        help="number of epochs to save; each epoch has new views of every image",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the store; if it contains a store that the same command wrote, possibly "
        "with a smaller --epochs, the missing predictions are added",
    )
    _add_view_arguments(parser)
    _add_teacher_arguments(parser)


def _add_view_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("views")
    group.add_argument(
        "--img-size",
        "--imgsz",
        type=positive_int,
        metavar="PIXELS",
        help="width and height of the views (default: the input size of the first teacher); for "
        "another size, a checkpoint gets the attention windows that tinyvit-export uses by default",
    )
    group.add_argument(
        "--views",
        type=positive_int,
        default=1,
        metavar="N",
        help="number of views of each image in an epoch (default: 1)",
    )
    group.add_argument(
        "--preset",
        default="pretrain-22k",
        metavar="NAME",
        help="training preset whose augmentation is used (default: pretrain-22k)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one augmentation setting, such as scale=[0.3,1.0] or mixup=0.8",
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of all views (default: 0)"
    )


def _add_teacher_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("teacher")
    add_threads_argument(group)
    group.add_argument(
        "--top-k",
        type=positive_int,
        default=10,
        metavar="K",
        help="number of most probable classes to save for each view (default: 10; the paper uses "
        "100 for ImageNet-22k)",
    )
    group.add_argument(
        "--batch",
        type=positive_int,
        default=16,
        metavar="N",
        help="number of views that the teacher predicts at once (default: 16)",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="precision of teachers that run in PyTorch; auto is bfloat16 if the hardware supports "
        "it (default: auto)",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="compute on the Ray cluster at ADDRESS (HOST:PORT); without ADDRESS, start a cluster "
        "on this machine",
    )


def run(args: argparse.Namespace) -> int:
    """Fill the store, or resume filling it.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.packages import require_packages

    set_thread_count(args.threads)
    # Before the imports, because that of torch takes seconds.
    require_packages("torch")
    if args.ray is not None:
        from tinyvit.bench.ray_cluster import require_ray

        require_ray()
    from tinyvit.distill.logits.save import save_logits
    from tinyvit.distill.logits.teacher_predictions import LogitsRequest
    from tinyvit.distill.training.config import apply_overrides, parse_assignment
    from tinyvit.distill.training.presets import get_preset

    assignments = dict(map(parse_assignment, args.set))
    overrides = {f"augmentation.{name}": value for name, value in assignments.items()}
    request = LogitsRequest(
        data=args.data,
        teachers=tuple(args.teacher),
        epochs=args.epochs,
        output=args.output,
        top_k=args.top_k,
        size=args.img_size,
        views_per_image=args.views,
        seed=args.seed,
        batch=args.batch,
        augmentation=apply_overrides(get_preset(args.preset), overrides).augmentation,
        precision=args.precision,
        ray_address=args.ray,
    )
    with explain_interrupt(lambda: _explain_continuation(args.output)):
        store = save_logits(request, make_progress())
    print_lines(_describe_store(store))
    return 0


def _explain_continuation(folder: Path) -> str:
    """Return what the same command does after an interruption, as a clause."""
    from tinyvit.distill.logits.header import HEADER_NAME

    if not (folder / HEADER_NAME).is_file():
        return f"nothing was saved in {folder} yet, so the same command starts from the beginning"
    return f"run the same command again to resume {folder}"


def _describe_store(store: Store) -> str:
    """Return a line with the folder of a store, the number of its views, and its size."""
    header = store.header
    bytes_per_view = header.dtype.itemsize
    total_mb = store.epochs * header.records_per_epoch * bytes_per_view / 1e6
    epochs = format_count(store.epochs, "epoch")
    views = format_count(header.records_per_epoch, "view")
    return (
        f"{store.folder}: {epochs} of {views}, {bytes_per_view} bytes per view "
        f"({total_mb:.1f} MB in all)"
    )
