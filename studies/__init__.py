"""Commands that measure the project's published figures, and the facts that decisions rest on.

A command is run as `python -m tinyvit.studies.NAME`. The wheel does not contain this folder.
"""
