"""Measures every change for speed or memory with the code before it and with the present code.

The command is `python -m tinyvit.studies.before_after` (see `__main__`).
"""
