"""The model that comes along: a demo of 2.6 million parameters, trained by `training/` of the source."""

import os
from pathlib import Path

PATH = Path(__file__).parent / "edgellama-demo-q8_0.gguf"
REAL_MODEL = "bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"  # small, good, and fits into any computer's memory


def is_bundled(path: str | os.PathLike[str]) -> bool:
    """Whether a model's file is the one that comes along."""
    return Path(path).resolve() == PATH.resolve()
