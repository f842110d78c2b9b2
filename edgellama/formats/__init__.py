"""What the bytes of a tensor mean: one class per format, found by GGUF type id or by name. NumPy only.

A format is one file in this folder, and nothing else needs to know of it: importing the folder registers the classes.
"""

from importlib import import_module
from pkgutil import iter_modules

from .base import REGISTRY, BlockFormat

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

ALL: list[type[BlockFormat]] = [REGISTRY[type_id] for type_id in sorted(REGISTRY)]
_BY_NAME = {block_format.name: block_format for block_format in ALL}


def by_id(type_id: int) -> type[BlockFormat]:
    """The format with this GGUF type id; KeyError where there is none."""
    return REGISTRY[type_id]


def by_name(name: str) -> type[BlockFormat]:
    """The format with this lower-case name, e.g. 'q4_k'; KeyError where there is none."""
    return _BY_NAME[name]
