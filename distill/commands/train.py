"""The subcommand `train`: train a TinyViT, which is called the student.

The student learns from a store (a folder of saved teacher predictions), from class labels, or from
both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import explain_interrupt
from tinyvit.distill.train_arguments import add_arguments
from tinyvit.openmp import set_thread_count
from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_lines

if TYPE_CHECKING:
    from tinyvit.distill.training.config import TrainingConfig

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = (
    "train a TinyViT from saved teacher predictions (a store), from class labels, or from both; "
    "after an interruption, the same command continues"
)
EXAMPLES = """\
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill train --init tinyvit_5m.safetensors --data my-classes/ -o run/
  tinyvit-distill train --preset finetune-384 --init run/best.safetensors --data photos/ \\
      -o larger/
  tinyvit-distill train --qat --init run/best.safetensors --data photos/ --logits own-store/ \\
      -o int8/
  torchrun --nproc-per-node 8 -m tinyvit.distill.cli train --student tiny_vit_21m_224 \\
      --data photos/ --logits store/ -o run/"""


def run(args: argparse.Namespace) -> int:
    """Train the student, or resume an interrupted run, and print the path of the best checkpoint.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.packages import require_training_packages

    set_thread_count(args.threads)
    require_training_packages()  # before the imports, because that of torch takes seconds
    from tinyvit.distill.training.request import TrainingRequest
    from tinyvit.distill.training.train import train_student

    request = TrainingRequest(
        data=args.data,
        output=args.output,
        config=_make_config(args),
        student=args.student,
        init=args.init,
        val_data=args.val_data,
        logits=args.logits,
        img_size=args.img_size,
        classes=args.classes,
        license=args.license,
        workers=args.workers,
        overwrite=args.overwrite,
        qat=args.qat,
        weight_bits=args.weight_bits,
        fits_batch=not _is_batch_given(args),
        requires_split=args.val_split is not None or _is_set(args, "val_split"),
    )
    with explain_interrupt(lambda: _explain_continuation(args.output, args.overwrite)):
        best_checkpoint = train_student(request, make_progress())
    print_lines(str(best_checkpoint))
    return 0


def _explain_continuation(folder: Path, overwrite: bool) -> str:
    """Return what the same command does after an interruption, as a clause."""
    from tinyvit.distill.training.run.folder import STATE_FILE

    if not (folder / STATE_FILE).is_file():
        return (
            f"no step was saved in {folder} yet, so the same command starts again at step 0 (the "
            "progress is saved after every epoch, and every 10 minutes)"
        )
    # With --overwrite, the repeated command would start from the beginning.
    condition = " without --overwrite" if overwrite else ""
    return f"run the same command again{condition} to resume {folder}"


def _is_batch_given(args: argparse.Namespace) -> bool:
    """Return whether the user chose the number of images per step."""
    return _is_set(args, "batch") or args.batch is not None or args.config is not None


def _is_set(args: argparse.Namespace, name: str) -> bool:
    """Return whether the user chose a setting with --set."""
    return any(assignment.partition("=")[0].strip() == name for assignment in args.set)


def _make_config(args: argparse.Namespace) -> TrainingConfig:
    """Return the settings of --config or a preset, changed by --set and by other options."""
    from tinyvit.distill.training.config import apply_overrides, parse_assignment, read_config
    from tinyvit.distill.training.presets import choose_preset, get_preset, scale_warmup
    from tinyvit.errors import RequestError

    if args.config and args.preset:
        raise RequestError("--config and --preset were both given", "give only one of them")
    if args.config:
        config = read_config(args.config)
    else:
        default_preset = choose_preset(
            has_init=args.init is not None,
            has_store=args.logits is not None,
            is_qat=args.qat is not None,
        )
        config = get_preset(args.preset or default_preset)
    config = apply_overrides(config, dict(map(parse_assignment, args.set)))
    options = {
        "epochs": args.epochs,
        "batch": args.batch,
        "accumulation": args.accumulation,
        "checkpoint_activations": args.checkpoint_activations,
        "lr": args.lr,
        "val_split": args.val_split,
        "patience": args.patience,
        "balance": args.balance,
        "freeze": args.freeze,
    }
    given_options = {name: value for name, value in options.items() if value is not None}
    config = replace(config, **given_options)
    is_warmup_given = args.config is not None or _is_set(args, "warmup_epochs")
    return config if is_warmup_given else scale_warmup(config)
