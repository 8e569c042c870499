"""The subcommands of tinyvit-distill, one a file: HELP, EXAMPLES, add_arguments, run. Nothing of torch is imported before one runs."""
