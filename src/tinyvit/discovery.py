"""Discovery of targets and engines: modules of a package that are listed, then imported on demand.

`export/targets/` and `runtimes/engines/` use this one mechanism, so that adding a module there is
all that a new target or engine needs.
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
        packages_only: Only subpackages are plugins; single modules are helpers.

    Returns:
        Sorted names, with hyphens instead of underscores; names with a leading underscore are
        helpers and not listed.
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
        submodule: Module inside the plugin's own package that holds the object; "" if the plugin
            is a single module.

    Returns:
        The object called `attribute`.
    """
    parts = [package.__name__, name.replace("-", "_"), *([submodule] if submodule else [])]
    return getattr(import_module(".".join(parts)), attribute)
