"""Memory, graphics cards and the terminal."""

import locale
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .. import system
from .finding import NOTE, WELL, WRONG, Finding

LITTLE_MEMORY_BYTES = 256 << 20  # the smallest useful model with Python and NumPy
NVIDIA_FOLDER = Path("/proc/driver/nvidia/gpus")
_QUERY = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]


def check_memory() -> Finding:
    """What a model may use. Wrong: next to nothing."""
    free = system.available_memory_bytes()
    room = system.cgroup_memory_room_bytes() if sys.platform == "linux" else None
    limited = ", the limit of this container" if room is not None and room <= free else ""
    text = f"{free / 1e9:.1f} GB available{limited}"
    if free < LITTLE_MEMORY_BYTES:
        return Finding("memory", WRONG, f"{text}: too little for any model", {"available_bytes": free})
    return Finding("memory", WELL, text, {"available_bytes": free})


def check_gpu() -> Finding:
    """NVIDIA cards, for the record: none is needed, and a driver that does not answer is worth a note."""
    cards, problem = _cards_of_driver(), ""
    program = shutil.which("nvidia-smi")
    if program:
        try:
            done = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=10, check=True)
            cards = done.stdout.strip().splitlines() or cards
        except (OSError, subprocess.SubprocessError):
            problem = "nvidia-smi is installed but does not answer"
    facts = {"nvidia": cards}
    if problem:
        return Finding("GPU", NOTE, "; ".join([*cards, problem]), facts)
    return Finding("GPU", WELL, "\n".join(cards) or "no NVIDIA card found; none is needed", facts)


def _cards_of_driver() -> list[str]:
    """Names that the Linux driver tells without any program."""
    names = []
    for file in sorted(NVIDIA_FOLDER.glob("*/information")):
        fields = dict(line.split(":", 1) for line in system.read_text(file).splitlines() if ":" in line)
        names.append(fields.get("Model", "unknown model").strip())
    return names


def check_terminal() -> Finding:
    """What decides how a chat looks. A note: characters that the terminal's encoding lacks."""
    encoding = (getattr(sys.stdout, "encoding", None) or "unknown").lower()
    size = shutil.get_terminal_size()
    facts = {
        "stdin_is_terminal": system.is_terminal(sys.stdin),
        "stdout_is_terminal": system.is_terminal(sys.stdout),
        "encoding": encoding,
        "columns": size.columns,
        "lines": size.lines,
        "term": os.environ.get("TERM", ""),
        "colour": os.environ.get("COLORTERM", ""),
        "no_color": "NO_COLOR" in os.environ,
        "locale": locale.setlocale(locale.LC_CTYPE),
    }
    kind = f"{size.columns} x {size.lines}" if facts["stdout_is_terminal"] else "the output is no terminal"
    text = f"{kind}, TERM={facts['term'] or '(not set)'}, {encoding}, locale {facts['locale']}"
    if not encoding.replace("-", "").startswith("utf"):
        return Finding("terminal", NOTE, f"{text}\ncharacters that {encoding} lacks are shown as ?", facts)
    return Finding("terminal", WELL, text, facts)
