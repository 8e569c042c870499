"""The subcommands of tinyvit-bench: each module is the subcommand of the same name.

Each module has:

    HELP        a clause that says what the subcommand does, for --help
    EXAMPLES    example command lines for --help, each indented by two spaces
    add_arguments(parser: argparse.ArgumentParser) -> None
    run(args: argparse.Namespace) -> int, which returns the exit code

The modules that measure are imported inside functions, so that --help does not load numpy and the
engines.
"""
