"""The package as a wheel built from a copy of this tree, unpacked where a test wants it, with or without objects."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from edgellama.compiler import cache, shipped
from edgellama.compiler.groups import groups_of
from edgellama.compiler.loader import load_kernels

REPOSITORY = Path(__file__).resolve().parent.parent
# What is no source: leftovers of other builds and environments.
_LEFT_OUT = (
    ".git",
    ".venv",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
)


def copy_tree(folder: Path) -> Path:
    """The sources in a folder of their own."""
    return Path(shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT)))


def run_setup(tree: Path, *arguments: str) -> Path:
    """Run setup.py in a copy; the newest file that it put into dist/."""
    done = subprocess.run([sys.executable, "setup.py", "-q", *arguments], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return max((tree / "dist").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def unpack(wheel: Path, folder: Path) -> Path:
    """A wheel's files as pip would lay them out in a site-packages folder."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def add_objects(site: Path) -> str:
    """Give an unpacked copy the kernels of this process, as a release would have them; their instruction set.

    The same bytes under a release's keys: that they are the same is a test of its own.
    """
    isa, abi = load_kernels().isa, shipped.host_abi()
    for group in groups_of("edgellama"):
        item = shipped.load(group, isa) or cache.load(group, isa, cache.key_of(group, isa))
        path = shipped.path_of(site / "edgellama" / "compiler" / "objects", group, isa, abi)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cache.seal(cache.KernelObject(shipped.key_of(group, isa, abi), item.exports, item.data)))
    return isa


def make_read_only(folder: Path) -> None:
    """Readable by everyone and writable by nobody but root."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def stranger() -> dict:
    """Options for subprocess: a user without a name, a home or a right to write, where this process may become one."""
    return {"user": 54321, "group": 54321, "extra_groups": []} if os.name == "posix" and os.getuid() == 0 else {}
