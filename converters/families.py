"""Which family of `edgellama/arch` a checkpoint belongs to."""

from types import ModuleType

from edgellama import arch

from .errors import ConvertError
from .fields import Fields


def find_family(config: Fields) -> tuple[str, ModuleType]:
    """(architecture, module) of the family that knows the config's model_type; ConvertError where none does."""
    wanted = config.get("model_type", str)
    known: dict[str, str] = {}
    for architecture in arch.names():
        for model_type in getattr(arch.find(architecture), "MODEL_TYPES", ()):
            known[model_type] = architecture
    if wanted not in known:
        raise ConvertError(f"{config.path}: model_type {wanted[:40]!r} cannot be converted; {', '.join(known)} can")
    family = arch.find(known[wanted])
    for name, value in family.FIXED.items():
        if name in config and config.values[name] != value:
            found = str(config.values[name])[:40]
            raise ConvertError(f"{config.path}: {name} is {found!r}, and this family is computed with {value!r} only")
    return known[wanted], family
