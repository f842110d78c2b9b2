"""The child processes that compile what the cache lacks: one per kernel group, as many at once as there are CPUs."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from .. import system
from ..errors import EdgellamaError
from . import cache, sources
from .groups import Group


def compile_groups(
    groups: list[Group], isa: str, keys: dict[str, str], progress: Callable[[int, int], None]
) -> dict[str, cache.KernelObject]:
    """Compile these groups and keep their objects in the cache; {group name: object}."""
    children: list[subprocess.Popen] = []
    objects = {}
    progress(0, len(groups))
    pool = ThreadPoolExecutor(len(system.usable_cpus()))
    try:
        tasks = {pool.submit(_compile, group, isa, keys[group.name], children): group for group in groups}
        for task in as_completed(tasks):
            group = tasks[task]
            objects[group.name], sealed = task.result()
            cache.store(group, isa, sealed, keys[group.name])
            progress(len(objects), len(groups))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            if child.poll() is None:  # another group failed, or the user gave up
                child.kill()
        pool.shutdown()
    return objects


def _compile(group: Group, isa: str, key: str, children: list) -> tuple[cache.KernelObject, bytes]:
    command = [_interpreter(), "-P", "-m", "edgellama.compiler.build", "--isa", isa, "--key", key]
    command += ["--group", group.name, "--modules", ",".join(group.modules)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        cwd=sources.PACKAGE,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    children.append(child)
    sealed, errors = child.communicate()
    item = cache.unseal(sealed, key)
    if child.returncode != 0 or item is None:
        lines = errors.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
        raise EdgellamaError(f"compiling the {group.name} kernels for {isa} failed: {lines[-1]}")
    return item, sealed


def _interpreter() -> str:
    """The Python that children run; a frozen app's executable is not one and would start the app again."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise EdgellamaError("kernels for this CPU must be compiled first, which needs a Python interpreter to run")
    return sys.executable


def child_environment() -> dict[str, str]:
    """This process's environment with its import path, without settings that would change what Numba does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    root = str(sources.PACKAGE.parent)
    path = [os.path.abspath(entry) for entry in sys.path if entry]
    environment["PYTHONPATH"] = os.pathsep.join(path if root in path else [root, *path])
    environment["PYTHONHASHSEED"] = "0"  # the same sources give the same bytes
    return environment
