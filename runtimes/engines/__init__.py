"""The engines: one module for each library that runs artifacts, see `tinyvit.runtimes.base`.

A new module here is a new engine; no list names them. Modules whose name begins with an underscore
are helpers of an engine.
"""
