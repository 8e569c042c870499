"""The command `tinyvit-distill`. Its subcommands are the modules of `distill/commands/`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinyvit.cli import run_subcommand
from tinyvit.distill import commands
from tinyvit.distill.allocator import keep_freed_memory

_EXAMPLES = """\
  tinyvit-distill save-logits --data photos/ --teacher timm:convnext_base.fb_in22k_ft_in1k \\
      --epochs 30 --top-k 10 -o store/
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill evaluate run/best.safetensors --data photos/"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Command-line arguments. None takes those of the process. In that case, the process
            runs only this command, so its memory settings are changed (`keep_freed_memory`).

    Returns:
        The exit code.
    """
    if argv is None:
        keep_freed_memory()
    return run_subcommand(
        "tinyvit-distill",
        "Train a TinyViT from the saved predictions of a larger network (the teacher), or from "
        "class labels.",
        _EXAMPLES,
        commands,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
