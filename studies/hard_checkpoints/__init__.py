"""Makes checkpoints that are hard to quantize, and compares how quantizers do on them.

The command is `python -m tinyvit.studies.hard_checkpoints` (see `__main__`).
"""
