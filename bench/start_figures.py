"""What a user waits for before the first token: compiling kernels once, and the start of a process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .startup import GENERATE, edgellama_command, seconds_to_first_output

N_STARTS = 3  # of which the fastest counts: others may have read the file from the disk


def compile_kernels() -> dict[str, Any]:
    """Compile what this device has not compiled yet; how long that took."""
    from edgellama.compiler import load_kernels

    compiled: list[int] = []
    begin = time.perf_counter()
    load_kernels(progress=lambda done, total: compiled.append(done))
    seconds = time.perf_counter() - begin if compiled else 0.0
    return {"kernel_compile_seconds": seconds, "kernels_cached": not compiled}


def first_token_seconds(path: Path, n_threads: int, n_starts: int = N_STARTS) -> float | None:
    """From the start of `edgellama generate` to its first token; None where a one-word prompt gives none."""
    command = edgellama_command("generate", str(path), *GENERATE, "--no-prompt", "-q", "--threads", str(n_threads))
    try:
        return min(seconds_to_first_output(command) for _ in range(n_starts))
    except RuntimeError:
        return None
