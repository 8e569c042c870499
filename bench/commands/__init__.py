"""The subcommands of tinyvit-bench: each module is the subcommand of the same name.

Each module has:

    HELP        what the subcommand does, in one line
    EXAMPLES    command lines, indented by two spaces
    add_arguments(parser: argparse.ArgumentParser) -> None
    run(args: argparse.Namespace) -> int, which returns the exit code

`run` imports the modules that measure, so that --help does not load numpy and the engines.
"""
