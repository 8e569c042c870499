"""The command `tinyvit-distill`. Its subcommands are the modules of `distill/commands/`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinyvit.cli import make_subcommand_parser, run_subcommand
from tinyvit.command_parser import CommandParser
from tinyvit.distill import commands
from tinyvit.openmp import use_passive_waiting
from tinyvit.processes.allocator import keep_freed_memory

_EXAMPLES = """\
  tinyvit-distill save-logits --data photos/ --teacher timm:convnext_base.fb_in22k_ft_in1k \\
      --epochs 30 --top-k 10 -o store/
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill evaluate run/best.safetensors --data photos/"""


def main(argv: Sequence[str] | None = None, prog: str = "tinyvit-distill") -> int:
    """Run the command.

    Args:
        argv: Command-line arguments. None takes those of the process. In that case, the process
            runs only this command, so its settings of the memory (`keep_freed_memory`) and of
            threads (`use_passive_waiting`) are changed.
        prog: Name of the program in messages.

    Returns:
        The exit code.
    """
    if argv is None:
        keep_freed_memory()
        use_passive_waiting()
    return run_subcommand(make_distill_parser(prog), argv)


def make_distill_parser(prog: str) -> CommandParser:
    """Make the parser of the command, with all of its subcommands.

    Args:
        prog: Name of the program in messages.
    """
    return make_subcommand_parser(
        prog,
        "Train a TinyViT from the saved predictions of a larger network (the teacher), or from "
        "class labels.",
        _EXAMPLES,
        commands,
    )


if __name__ == "__main__":
    sys.exit(main())
