"""A sentence for a name that nothing has, with the one that was probably meant."""

import difflib
from collections.abc import Iterable

from edgellama.terminal.safe_text import safe_line


def unknown(kind: str, name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`there is no setting 'tmp'; did you mean 'temperature'?`; `otherwise` is said where nothing is near."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    end = f"; did you mean {nearest[0]!r}?" if nearest else otherwise
    return f"there is no {kind} '{safe_line(name, 40)}'{end}"
