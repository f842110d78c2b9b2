"""Names of models: OWNER/REPO, OWNER/REPO:TYPE or OWNER/REPO:FILE.gguf, and the choice of a file by such a name.

Names become folders and parts of URLs, and those of files come from a server, so both are matched against a strict
pattern before anything else is done with them: ASCII, no empty, hidden or upward part, no name that Windows reserves.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..errors import EdgellamaError

# The hub's own rule for owners and repositories, but for the length, which is at most 96.
_HUB_NAME = r"(?!\S*(?:--|\.\.))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_HUB_NAME}/{_HUB_NAME}", re.ASCII)
_PART = re.compile(r"(?!.*\.\.)[A-Za-z0-9_](?:[\w.+=-]{0,198}[A-Za-z0-9_])?", re.ASCII)
_TYPE = re.compile(r"[A-Za-z0-9][\w.-]{0,62}", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][\w./-]{0,126}", re.ASCII)
_WINDOWS_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_MOST_PARTS = 8

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?<![A-Za-z0-9])(?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F[P]?16|F[P]?32)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_HELPERS = ("mmproj", "imatrix")  # files that lie beside models and are none
PREFERRED = ("Q4_K_M", "Q4_0", "Q8_0", "Q4_K_S", "Q5_K_M", "Q6_K", "Q4_1", "IQ4_XS", "F16", "BF16", "F32")


@dataclass(frozen=True)
class ModelName:
    """`choice` is a type such as Q4_K_M, a file ending in .gguf, or None."""

    repository: str
    choice: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}:{self.choice}" if self.choice else self.repository

    @property
    def is_file(self) -> bool:
        return self.choice is not None and self.choice.lower().endswith(".gguf")


class Named(Protocol):
    """What can be chosen by a name: `file` is the path in the repository, of a split model that of the first part."""

    @property
    def file(self) -> str: ...

    @property
    def n_bytes(self) -> int: ...


Choice = TypeVar("Choice", bound=Named)


def parse_name(text: str) -> ModelName | None:
    """The name that a text is; None for a text of any other form."""
    repository, colon, choice = text.partition(":")
    if repository.lower().endswith(".gguf") or not is_repository(repository):
        return None
    if not colon:
        return ModelName(repository)
    is_choice = is_file(choice) if choice.lower().endswith(".gguf") else _TYPE.fullmatch(choice)
    return ModelName(repository, choice) if is_choice else None


def is_repository(text: str) -> bool:
    """Whether this is OWNER/REPO."""
    return bool(_REPOSITORY.fullmatch(text)) and not any(map(_is_reserved, text.split("/")))


def is_file(text: str) -> bool:
    """Whether this may be the path of a model file in a repository."""
    parts = text.split("/")
    is_path = len(parts) <= _MOST_PARTS and all(_PART.fullmatch(part) and not _is_reserved(part) for part in parts)
    return is_path and text.lower().endswith(".gguf")


def is_revision(text: str) -> bool:
    """Whether this may be a branch, a tag or a commit."""
    return bool(_REVISION.fullmatch(text))


def _is_reserved(part: str) -> bool:
    return bool(_WINDOWS_DEVICE.fullmatch(part))


def quantization(file: str) -> str | None:
    """The type that a file's name tells, in capitals: Q4_K_M of llama-q4_k_m.gguf."""
    found = _QUANTIZATION.findall(file.rpartition("/")[2])
    return found[-1].upper() if found else None


def split_parts(file: str) -> list[str]:
    """All files of the model that a file begins; none for a later part."""
    match = _SPLIT.fullmatch(file)
    if match is None:
        return [file]
    if int(match["number"]) != 1:
        return []
    count = match["count"]
    return [f"{match['stem']}-{number:05d}-of-{count}.gguf" for number in range(1, int(count) + 1)]


def choose(name: ModelName, candidates: Sequence[Choice], owner: str, prefer: bool = True) -> Choice:
    """The candidate that a name means; with `prefer`, a name that leaves it open means the best known type.

    Raises EdgellamaError, with a list of what there is, for none and for several. `owner` says who has them.
    """
    fitting = [candidate for candidate in candidates if _fits(name.choice, candidate.file)]
    models = [candidate for candidate in candidates if not _is_helper(candidate.file)]
    if name.choice is None and prefer:
        for wanted in PREFERRED:
            best = [candidate for candidate in fitting if quantization(candidate.file) == wanted]
            if best:
                fitting = best
                break
    if len(fitting) == 1:
        return fitting[0]
    if not models:
        raise EdgellamaError(f"{owner} has no GGUF file")
    problem = f"has several models for {name}" if fitting else f"has nothing that {name.choice} names"
    raise EdgellamaError(f"{owner} {problem}; say which:\n{listing(name.repository, fitting or models)}")


def _fits(choice: str | None, file: str) -> bool:
    base = file.rpartition("/")[2].lower()
    if choice is not None and choice.lower().endswith(".gguf"):
        return file == choice
    if _is_helper(file):
        return False
    return choice is None or bool(re.search(rf"(?<![a-z0-9]){re.escape(choice.lower())}(?![a-z0-9_])", base))


def _is_helper(file: str) -> bool:
    return file.rpartition("/")[2].lower().startswith(_HELPERS)


def listing(repository: str, candidates: Sequence[Named]) -> str:
    """One line each: a name that pulls it, and its size."""
    labels = [short_name(repository, candidate, candidates) for candidate in candidates]
    width = max(map(len, labels))
    rows = sorted(zip(labels, candidates, strict=True), key=lambda row: row[1].n_bytes)
    return "\n".join(f"  {label.ljust(width)}  {size(candidate.n_bytes)}" for label, candidate in rows)


def short_name(repository: str, candidate: Named, all_there: Sequence[Named]) -> str:
    """OWNER/REPO:TYPE where that means the candidate and no other, else OWNER/REPO:FILE."""
    kind = quantization(candidate.file)
    fitting = [other for other in all_there if kind and _fits(kind, other.file)]
    return f"{repository}:{kind if fitting == [candidate] else candidate.file}"


def size(n_bytes: int) -> str:
    """A size for people, in the decimal units that the hub shows."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    value, unit = float(n_bytes), 0
    while value >= 999.95 and unit < 4:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"
