"""The small texts of /proc and /sys."""

from pathlib import Path


def read_text(path: Path) -> str:
    """A small file of /proc or /sys; empty when it is missing or unreadable, as many are in containers."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
