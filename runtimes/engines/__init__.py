"""Contains one module for each engine, a library that runs artifacts (see `tinyvit.runtimes.base`).

Engines are found by listing this folder, so adding a module adds an engine. A module whose name
begins with an underscore is a helper of an engine.
"""
