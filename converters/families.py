"""Which family of `edgellama/arch` a checkpoint belongs to."""

from types import ModuleType

from edgellama import arch

from .errors import ConvertError
from .fields import Fields, computed


def find_family(config: Fields) -> tuple[str, ModuleType]:
    """(architecture, module) of the family that knows the config's model_type; ConvertError where none does."""
    wanted = config.get("model_type", str)
    if "vision_config" in config or "visual" in config:
        raise ConvertError(f"{config.path}: has a vision part, and only text models are converted")
    known: dict[str, str] = {}
    for architecture in arch.names():
        family = arch.find(architecture)
        for model_type in getattr(family, "MODEL_TYPES", ()):
            if model_type != wanted or _recognises(family, config):
                known[model_type] = architecture
    if wanted not in known:
        raise ConvertError(f"{config.path}: model_type {wanted[:40]!r} cannot be converted; {', '.join(known)} can")
    family = arch.find(known[wanted])
    for name, value in family.FIXED.items():
        if name in config and config.values[name] != value:
            found = str(config.values[name])[:40]
            raise ConvertError(f"{config.path}: {name} is {found!r}, and this family is computed with {value!r} only")
    if hasattr(family, "contradiction") and (fact := computed(family.contradiction, config)):
        raise ConvertError(f"{config.path}: {fact}, and this family is not computed so")
    return known[wanted], family


def _recognises(family: ModuleType, config: Fields) -> bool:
    """Whether a config is of this family, where several have its model_type."""
    return not hasattr(family, "recognises") or family.recognises(config.values)


def in_common_spelling(family: ModuleType, config: Fields) -> Fields:
    """The config with the fields that most have, where the family's checkpoints spell or mean them in another way."""
    if not hasattr(family, "respelled"):
        return config
    values = computed(family.respelled, config)
    added = {name: value for name, value in values.items() if value is not None and name not in config}
    return Fields(config.values | added, config.path, config.prefix)
