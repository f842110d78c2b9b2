"""The child processes that compile what the cache lacks: one per kernel group.

As many run at once as there are CPUs, and as memory has room for: they must not make a small machine end this process.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from .. import system
from ..errors import EdgellamaError
from . import cache, sources
from .groups import Group

CHILD_BYTES = 200 << 20  # that a compilation takes at its peak: 170 MB were measured, with Numba and LLVM


@dataclass(frozen=True)
class Job:
    """One compilation. Without a `triple`, for this process's platform."""

    group: Group
    isa: str
    key: str
    triple: str | None = None


def compile_groups(
    groups: list[Group], isa: str, keys: dict[str, str], progress: Callable[[int, int], None]
) -> dict[str, cache.KernelObject]:
    """Compile these groups and keep their objects in the cache; {group name: object}."""
    objects = {}
    progress(0, len(groups))
    for job, item, sealed in run_jobs([Job(group, isa, keys[group.name]) for group in groups]):
        objects[job.group.name] = item
        cache.store(job.group, isa, sealed, job.key)
        progress(len(objects), len(groups))
    return objects


def run_jobs(jobs: list[Job]) -> Iterator[tuple[Job, cache.KernelObject, bytes]]:
    """Compile; each job with its object and the sealed file, as they are done. EdgellamaError if one fails."""
    children: list[subprocess.Popen] = []
    pool = ThreadPoolExecutor(_n_at_once())
    try:
        tasks = {pool.submit(_compile, job, children): job for job in jobs}
        for task in as_completed(tasks):
            yield tasks[task], *task.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            if child.poll() is None:  # another job failed, or the user gave up
                child.kill()
        pool.shutdown()


def _n_at_once() -> int:
    """As many children as there are CPUs, and as memory has room for."""
    return max(1, min(len(system.usable_cpus()), system.available_memory_bytes() // CHILD_BYTES))


def _compile(job: Job, children: list) -> tuple[cache.KernelObject, bytes]:
    command = [_interpreter(), "-P", "-m", "edgellama.compiler.build", "--isa", job.isa, "--key", job.key]
    command += ["--group", job.group.name, "--modules", ",".join(job.group.modules)]
    if job.triple:
        command += ["--triple", job.triple]
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
    item = cache.unseal(sealed, job.key)
    if child.returncode != 0 or item is None:
        lines = errors.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
        raise EdgellamaError(f"compiling the {job.group.name} kernels for {job.isa} failed: {lines[-1]}")
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
