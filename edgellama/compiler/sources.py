"""What a kernel group is made from: the files that its modules import within their packages, found without importing.

Imports are read from the text, as importing kernels would need Numba. A test compares the result with what real
builds import.
"""

import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
COMPILER = ("compiler/codegen.py", "compiler/build.py")  # shape every object; what they import is not in it
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+([\w.]+))", re.MULTILINE
)
_NAME = re.compile(r"\w+")


def group_sources(modules: tuple[str, ...]) -> list[Path]:
    """The files of these modules and of all they import, directly or not, from their own packages and edgellama."""
    packages = {"edgellama", *(name.split(".")[0] for name in modules)}
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name.split(".")[0] not in packages:
            continue
        file = _file_of(name)
        if file is not None:
            found[name] = file
            waiting += _imports_of(name, file)
        elif name in modules:
            raise ModuleNotFoundError(f"there is no kernel module {name}")
    return [*(found[name] for name in sorted(found)), *(PACKAGE / name for name in COMPILER)]


def digest(files: list[Path]) -> bytes:
    """A hash of the names and contents of these files."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\n" + hashlib.sha256(_content(file)).digest())
    return total.digest()


@cache
def _content(file: Path) -> bytes:
    return file.read_bytes()


@cache
def _folder_or_file(top: str) -> Path | None:
    """Where a top-level package or module lies."""
    if top == "edgellama":
        return PACKAGE
    specification = find_spec(top)
    if specification is None or not specification.origin:
        return None
    origin = Path(specification.origin)
    return origin.parent if specification.submodule_search_locations else origin


@cache
def _file_of(name: str) -> Path | None:
    """The source file of a module or package; None if it is neither, for instance a name inside a module."""
    top, *rest = name.split(".")
    place = _folder_or_file(top)
    if place is None or place.suffix == ".py":
        return place if not rest else None
    place = place.joinpath(*rest)
    candidates = (place.with_name(place.name + ".py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def _imports_of(name: str, file: Path) -> list[str]:
    """Absolute names of the modules that this one may import; some may be no modules."""
    is_package = file.name == "__init__.py"
    names = []
    for source, members, plain in _IMPORT.findall(_content(file)):
        base = plain.decode() or _absolute(source.decode(), name, is_package)
        names.append(base)
        parent = _file_of(base) if base.split(".")[0] == name.split(".")[0] or base.startswith("edgellama") else None
        if parent is not None and parent.name == "__init__.py":
            names += [f"{base}.{member}" for member in _NAME.findall(members.decode())]
    return names


def _absolute(source: str, name: str, is_package: bool) -> str:
    """`source` of `from source import …` inside module `name`, without leading dots."""
    relative = source.lstrip(".")
    level = len(source) - len(relative)
    if level == 0:
        return relative
    parts = name.split(".")
    base = parts[: len(parts) - level + is_package]
    return ".".join([*base, *filter(None, [relative])])
