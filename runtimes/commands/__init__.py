"""The commands that use exported files: their arguments, and their results as text and files."""
