"""Discovery of plugins: the modules of a package are listed, and imported only when needed.

The targets in `export/targets/` and the engines in `runtimes/engines/` are found in this way. To
add one, only a module has to be added there.
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
        packages_only: Whether only subpackages are plugins. Modules are then helpers, which are
            not listed.

    Returns:
        The sorted names of the plugins, with hyphens instead of underscores. Names that begin with
        an underscore are those of helpers and are not listed.
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
    parts = [package.__name__, name.replace("-", "_"), *([submodule] if submodule else [])]
    return getattr(import_module(".".join(parts)), attribute)
