"""Measures how time, memory and file size grow with threads, images, classes and workers.

The command is `python -m tinyvit.studies.scaling` (see `__main__`).
"""
