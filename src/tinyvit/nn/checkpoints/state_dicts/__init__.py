"""State dicts: search in the content of a file, recognition of the architecture, and checks."""
