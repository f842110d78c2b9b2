"""Versions, dependencies, and whether the files in use are those that were installed."""

import base64
import csv
import hashlib
import platform
import re
import textwrap
from importlib.metadata import Distribution, PackageNotFoundError, distributions, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import edgellama

from .finding import NOTE, WELL, WRONG, Finding

PACKAGES = ("edgellama", "quant", "converters", "bench")
ROOT = Path(edgellama.__file__).resolve().parent.parent
_REQUIREMENT = re.compile(r"([\w.-]+)\s*([^;]*)")
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


def check_versions() -> Finding:
    """Versions of what matters. Wrong: a dependency is missing or out of the range that was tested."""
    found, problems = {}, []
    for name, bounds in _requirements().items():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        if not _is_within(found[name], bounds):
            problems.append(f"{name} {found[name]} is outside {bounds}")
    facts = {"edgellama": edgellama.__version__, "python": platform.python_version(), "platform": platform.platform()}
    text = f"edgellama {facts['edgellama']}, Python {facts['python']}, {facts['platform']}\n"
    text += textwrap.fill(", ".join(f"{name} {number}" for name, number in found.items()), 90, break_on_hyphens=False)
    if problems:
        text += "".join(f"\n{problem}" for problem in problems)
    return Finding("versions", WRONG if problems else WELL, text, facts | {"dependencies": found})


def _requirements() -> dict[str, str]:
    """Dependencies of the installed package without extras; of a source folder the two that must fit exactly."""
    installed = _own_distribution()
    if installed is None or not installed.requires:
        return {"numpy": "", "numba": "", "llvmlite": ""}
    lines = [line for line in installed.requires if "extra ==" not in line]
    return {match[1]: match[2].strip() for match in map(_REQUIREMENT.match, lines) if match}


def _is_within(number: str, bounds: str) -> bool:
    """Whether a version fits `>=1.2,<3`; other kinds of bounds are pip's business."""
    here = _parts(number)
    for sign, bound in _BOUND.findall(bounds):
        limit = _parts(bound)
        if (sign == ">=" and here < limit) or (sign == "<" and here >= limit):
            return False
    return True


def _parts(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]*\d|", number)[0].split(".") if part)


def _own_distribution() -> Distribution | None:
    """The installed edgellama: the copy that runs, if several are on the import path."""
    installed = list(distributions(name="edgellama"))
    return next((item for item in installed if _is_record_of(item, ROOT)), installed[0] if installed else None)


def check_packages() -> Finding:
    """edgellama and its tools compared with the installer's record. Wrong: changed, missing, or somebody else's."""
    installed = _own_distribution()
    is_record_of_these = installed is not None and _is_record_of(installed, ROOT)
    facts = {"installed": is_record_of_these}
    problems = [problem for name in PACKAGES if (problem := _foreign(name))]
    if not is_record_of_these:
        text = f"runs from the source folder {ROOT}, not from an installed copy"
        return Finding("packages", WRONG if problems else NOTE, "\n".join([text, *problems]), facts)
    changed = _changed_files(installed)
    problems += _explained(changed)
    text = f"{', '.join(PACKAGES)} in {ROOT}"
    text += "" if problems else ", as they were installed"
    return Finding("packages", WRONG if problems else WELL, "\n".join([text, *problems]), facts | {"changed": changed})


def _is_record_of(installed: Distribution, root: Path) -> bool:
    """Whether that distribution's record lists the package that runs; an editable one lists no modules."""
    return "edgellama/__init__.py" in _recorded(installed) and Path(str(installed.locate_file(""))).resolve() == root


def _recorded(installed: Distribution) -> dict[str, str]:
    """The files of the installer's record, and their hashes as `sha256=…`, empty for the record itself.

    `Distribution.files` would not do: since Python 3.12 it leaves out what is missing.
    """
    rows = csv.reader((installed.read_text("RECORD") or "").splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3}


def _foreign(name: str) -> str | None:
    """A sentence if importing `name` would give a package from elsewhere."""
    specification = find_spec(name)
    if specification is None:
        return f"the package {name} is missing"
    origin = Path(specification.origin or next(iter(specification.submodule_search_locations), ".")).resolve()
    if ROOT in origin.parents:
        return None
    return f"the package {name} is not edgellama's: {origin} is found first{_owner(name)}"


def _owner(name: str) -> str:
    others = sorted({other for other in packages_distributions().get(name, ()) if other != "edgellama"})
    return f", which the distribution {' and '.join(others)} owns" if others else ""


def _changed_files(installed: Distribution) -> list[str]:
    """Recorded files of our packages that are missing or have other contents."""
    changed = []
    for name, recorded in _recorded(installed).items():
        if name.partition("/")[0] not in PACKAGES or not recorded:
            continue
        try:
            content = Path(str(installed.locate_file(name))).read_bytes()
        except OSError:
            changed.append(name)
            continue
        mode, _, value = recorded.partition("=")
        digest = base64.urlsafe_b64encode(hashlib.new(mode, content).digest()).rstrip(b"=").decode()
        if digest != value:
            changed.append(name)
    return changed


def _explained(changed: list[str]) -> list[str]:
    """One sentence for each package with changed files."""
    sentences = []
    for name in PACKAGES:
        files = [file for file in changed if file.startswith(f"{name}/")]
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            sentences.append(f"not as installed: {files[0]}{more}{_owner(name)}; install edgellama again")
    return sentences
