"""Memory and the terminal."""

import locale
import os
import shutil
import sys

from .. import system
from .finding import NOTE, WELL, WRONG, Finding

LITTLE_MEMORY_BYTES = 256 << 20  # the smallest useful model with Python and NumPy


def check_memory() -> Finding:
    """What a model may use. Wrong: next to nothing."""
    free = system.available_memory_bytes()
    room = system.cgroup_memory_room_bytes() if sys.platform == "linux" else None
    limited = ", the limit of this container" if room is not None and room <= free else ""
    text = f"{free / 1e9:.1f} GB available{limited}"
    if free < LITTLE_MEMORY_BYTES:
        return Finding("memory", WRONG, f"{text}: too little for any model", {"available_bytes": free})
    return Finding("memory", WELL, text, {"available_bytes": free})


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
