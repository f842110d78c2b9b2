"""Models in several files: NAME-00001-of-00003.gguf, ...; the first file holds the keys, each file its own tensors.

`split.no` (from 0), `split.count` and `split.tensors.count` say what belongs together; nothing of it is believed before
the file names, the other parts and the tensors agree.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgellama.errors import GGUFError
from edgellama.gguf.cursor import quoted

if TYPE_CHECKING:
    from edgellama.gguf.reader import Part

_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"
_PART_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def other_parts(first: "Part") -> list[Path]:
    """The paths of parts 2, 3, ... of a split model, all present; empty for a model in one file."""
    count = _integer(first, _COUNT, 1)
    number = _integer(first, _NUMBER, 0)
    path = first.file.path
    if count <= 1 and number == 0:
        return []
    if number >= count:
        raise GGUFError(f"{path}: key {_NUMBER!r} says {number}, and key {_COUNT!r} says {count} (numbers start at 0)")
    match = _PART_NAME.fullmatch(path.name)
    if match is None or (int(match["number"]), int(match["count"])) != (number + 1, count):
        expected = f"-{number + 1:05d}-of-{count:05d}.gguf"
        raise GGUFError(f"{path}: its keys say part {number + 1} of {count}, so its name must end in {expected}")
    paths = [path.with_name(f"{match['stem']}-{index + 1:05d}-of-{count:05d}.gguf") for index in range(count)]
    if number != 0:
        raise GGUFError(f"{path}: is part {number + 1} of {count}; open the first part, {paths[0].name}")
    missing = next((part for part in paths if not part.exists()), None)
    if missing is not None:
        raise GGUFError(f"{path}: part {missing.name} is missing beside it")
    return paths[1:]


def check_part(first: "Part", part: "Part", index: int) -> None:
    """Refuse a part that says it is another one, or that carries keys of another model."""
    path = part.file.path
    expected = {_NUMBER: index, _COUNT: _integer(first, _COUNT, 1)}
    for key, value in expected.items():
        found = _integer(part, key, None)
        if found != value:
            raise GGUFError(f"{path}: key {key!r} must be {value} in this part, and is {found}")
    for key in part.metadata:
        shared = key in first.metadata and key != _NUMBER
        if shared and not part.metadata.agrees(first.metadata, key):
            raise GGUFError(f"{path}: is part of another model: key {quoted(key)} differs from {first.file.path.name}")


def check_tensors(parts: "list[Part]") -> None:
    """Refuse parts that repeat a tensor or that together hold another number of tensors than promised."""
    first, owners = parts[0], {}
    for part in parts:
        for name in part.tensors:
            if name in owners:
                fact = f"tensor {quoted(name)} is already in {owners[name]}"
                raise GGUFError(f"{part.file.path}: {fact} (byte {part.tensors[name].offset})")
            owners[name] = part.file.path.name
    promised = _integer(first, _TENSORS, None)
    if promised is not None and promised != len(owners):
        files = f"its {len(parts)} parts hold" if len(parts) > 1 else "it holds"
        raise GGUFError(f"{first.file.path}: key {_TENSORS!r} says {promised} tensors, and {files} {len(owners)}")
    if promised is None and len(parts) > 1:
        raise GGUFError(f"{first.file.path}: key {_TENSORS!r} is missing, and a split model needs it")


def _integer(part: "Part", key: str, default: int | None) -> int | None:
    if key not in part.metadata:
        return default
    value = part.metadata[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        fact = f"key {key!r} must be an integer of at least 0, and is {part.metadata.type_of(key)}"
        raise GGUFError(f"{part.file.path}: {fact} (byte {part.metadata.offset_of(key)})")
    return value
