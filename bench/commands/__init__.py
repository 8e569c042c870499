"""The subcommands of tinyvit-bench, one file each, named as it is typed.

Each has:

    HELP: what it does, one line
    EXAMPLES: command lines as typed, indented by two
    add_arguments(parser: argparse.ArgumentParser) -> None
    run(args: argparse.Namespace) -> int, the exit code

and imports what measures inside `run` only, so that --help is quick.
"""
