"""The subcommands of `tinyvit-distill`, one module each.

Each module has HELP, EXAMPLES, `add_arguments` and `run`. torch is imported only inside `run`, so
that `--help` is fast.
"""
