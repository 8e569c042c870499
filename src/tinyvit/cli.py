"""What the commands share: exit codes, error lines, --version.

Exit 0: done. 1: refused or failed, one line on stderr says why. 2: the command line was not understood.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from tinyvit import __version__
from tinyvit.errors import TinyViTError


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser with --version, and with `examples` shown as typed at the end of --help."""
    made = argparse.ArgumentParser(
        prog=prog, description=description, epilog=f"examples:\n{examples}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return made


def guarded(command: Callable[[], int]) -> int:
    """Run `command`; turn this package's errors, Ctrl-C and a closed pipe into a line and an exit code."""
    try:
        return command()
    except TinyViTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing was left behind", file=sys.stderr)
        return 1
