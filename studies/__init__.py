"""Commands that measure the project's published figures and what its decisions are based on.

A command is run as `python -m tinyvit.studies.NAME`. The wheel does not contain this folder.
"""
