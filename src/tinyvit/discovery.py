"""Discovery of plugins: the modules of a package are listed, and imported only when needed.

The plugins are the targets in `export/targets/`, the engines in `runtimes/engines/` and the
profilers in `bench/profilers/`. A module that is added to one of these folders is a new plugin; no
other file has to be changed.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any


@cache
def list_plugins(package: ModuleType, packages_only: bool = False) -> tuple[str, ...]:
    """List the plugins of a package without importing any.

    Args:
        package: A package whose public modules or subpackages are plugins.
        packages_only: Whether only subpackages are plugins. Modules beside them are then helpers
            and not listed.

    Returns:
        The sorted names of the plugins, with hyphens instead of underscores. A module whose name
        begins with an underscore is a helper and not listed.
    """
    modules = pkgutil.iter_modules(package.__path__)
    names = (module.name for module in modules if module.ispkg or not packages_only)
    return tuple(sorted(name.replace("_", "-") for name in names if not name.startswith("_")))


def load_plugin(package: ModuleType, name: str, attribute: str, submodule: str = "") -> Any:
    """Import one plugin and return the object that describes it.

    Args:
        package: The package that `list_plugins` listed.
        name: A name that `list_plugins` returned.
        attribute: Name of the module-level object, such as "ENGINE" or "TARGET".
        submodule: Module of the plugin's package that contains the object; "" if the plugin is a
            single module.

    Returns:
        The object called `attribute`.
    """
    module_name = f"{package.__name__}.{name.replace('-', '_')}"
    if submodule:
        module_name += f".{submodule}"
    return getattr(import_module(module_name), attribute)
