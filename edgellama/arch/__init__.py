"""Model families: one file each, named after the file's general.architecture."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from ..errors import ModelError

_SHARED = {"spec", "records", "blocks"}


def names() -> list[str]:
    """The architectures that this build runs."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in _SHARED)


def find(architecture: str) -> ModuleType:
    """The family's module. Raises ModelError for one that does not exist."""
    if architecture not in names():
        raise ModelError(f"no architecture is called {architecture!r}; this version runs {', '.join(names())}")
    return import_module(f"{__name__}.{architecture}")
