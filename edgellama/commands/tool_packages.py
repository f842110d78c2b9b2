"""The tool packages (bench, converters, quant) are top-level names, which another distribution may also use."""

import importlib.util
from pathlib import Path

import edgellama
from edgellama.errors import EdgellamaError


def require(name: str) -> None:
    """Raise EdgellamaError where the package `name` that Python finds is missing, or is not the one of this program."""
    home = Path(edgellama.__file__).resolve().parent.parent
    found = importlib.util.find_spec(name)
    if found is None:
        raise EdgellamaError(f"the package {name!r} of edgellama is not installed; install edgellama again")
    places = {Path(place).resolve() for place in found.submodule_search_locations or [found.origin]}
    if home / name not in places:
        raise EdgellamaError(
            f"Python finds another package {name!r}, {min(places)}, before that of edgellama in {home}; run edgellama "
            "from another folder, or in an environment without that package"
        )
