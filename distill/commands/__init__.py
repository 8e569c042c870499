"""The subcommands of `tinyvit-distill`, one module each.

Each module has HELP, EXAMPLES, `add_arguments` and `run`, which `tinyvit.cli.run_subcommand` uses.
Modules that need torch are imported only inside `run`, so that `--help` is fast.
"""
