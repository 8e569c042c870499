"""Names of classes and functions in pickles: conversion from Python 2, and refusal of attacks."""

from __future__ import annotations

_PYTHON_2_MODULES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "commands": "subprocess",
    "cPickle": "pickle",
}
"""Names that modules had in Python 2, which pickles of protocol 2 contain."""

_DANGEROUS_MODULES = {
    *("os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "pty", "runpy", "importlib"),
    *("ctypes", "codeop", "webbrowser", "marshal", "pickle", "_pickle", "pip"),
}
"""No object of a checkpoint is defined in one of these modules, but functions that run code are."""

_DANGEROUS_BUILTINS = (
    *("eval", "exec", "compile", "open", "__import__", "setattr", "delattr", "globals", "locals"),
    *("input", "breakpoint", "execfile", "apply", "vars"),
)
"""Names of Python's builtins that run code, or read or change what is outside of the pickle."""

_DANGEROUS_NAMES = {
    *(f"builtins.{name}" for name in _DANGEROUS_BUILTINS),
    *("io.open", "_io.open", "io.FileIO", "_io.FileIO", "io.open_code", "types.CodeType"),
    *("types.FunctionType", "torch.load", "torch.serialization.load", "torch.hub.load"),
    *("numpy.load", "joblib.load", "code.interact", "code.InteractiveInterpreter"),
    "code.InteractiveConsole",
}
"""Full names of the functions and classes that read files or run code. A file that names one of
them is an attack."""


class DangerousNameError(ValueError):
    """A pickle names a function that could run code.

    Attributes:
        name: Module and name of the function.
    """

    def __init__(self, name: str) -> None:
        """Create the error for a function.

        Args:
            name: Module and name of the function.
        """
        self.name = name
        super().__init__(name)


def check_pickled_name(name: str) -> str:
    """Check the name of a class or function in a pickle, and convert the name to Python 3.

    Args:
        name: Module and name, separated by a space.

    Returns:
        Module and name, separated by a period.

    Raises:
        DangerousNameError: The function could run code.
    """
    module, _, qualified_name = name.partition(" ")
    full_name = f"{_PYTHON_2_MODULES.get(module, module)}.{qualified_name}"
    if full_name.partition(".")[0] in _DANGEROUS_MODULES or full_name in _DANGEROUS_NAMES:
        raise DangerousNameError(full_name)
    return full_name
