"""tinyvit-distill: save-logits, check-logits, convert-logits, train, evaluate. Its subcommands are the files of commands/."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinyvit.cli import run_subcommand
from tinyvit.distill import commands
from tinyvit.distill.allocator import keep_memory

_EXAMPLES = """\
  tinyvit-distill save-logits --data photos/ --teacher timm:convnext_base.fb_in22k_ft_in1k --epochs 30 --top-k 10 -o store/
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill evaluate run/best.safetensors --data photos/"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code. argv: None for the process's own, which is then this command's alone."""
    if argv is None:
        keep_memory()
    return run_subcommand(
        "tinyvit-distill",
        "Teach a TinyViT: by a bigger network's stored answers, or by labels.",
        _EXAMPLES,
        commands,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
