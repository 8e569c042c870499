"""The subcommands of `tinyvit-distill`, one module each.

Each module has HELP, EXAMPLES, `add_arguments` and `run`, which
`tinyvit.cli.make_subcommand_parser` uses.
Modules that need torch are imported only inside `run`, so that `--help` is fast.
"""
