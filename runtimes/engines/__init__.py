"""Engines: one module for each library that runs artifacts (see `tinyvit.runtimes.base`).

Engines are found by listing this folder, so adding a module adds an engine. Modules with a leading
underscore are helpers of engines.
"""
