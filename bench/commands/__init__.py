"""The subcommands of tinyvit-bench, one module each, whose name is the name of the subcommand.

Each module has:

    HELP        what the subcommand does, in one line
    EXAMPLES    command lines, indented by two spaces
    add_arguments(parser: argparse.ArgumentParser) -> None
    run(args: argparse.Namespace) -> int, which returns the exit code

Modules that measure are imported in `run`, so that --help is quick.
"""
