"""Opening the files of a checkpoint: mapped, or read as JSON; what is no such file is one sentence."""

import json
from pathlib import Path
from typing import Any

from edgellama.gguf.mapped_file import MappedFile

from .errors import ConvertError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_JSON_BYTES = 1 << 29  # a tokenizer.json of 256,000 tokens has 35 MB


def open_source(path: Path) -> MappedFile:
    """Map a file that holds weights. Raises ConvertError or GGUFError where there is none."""
    if not path.exists():
        raise ConvertError(f"{path}: no such file")
    if path.is_dir():
        raise ConvertError(f"{path}: is a folder, and a file of weights is needed")
    file = MappedFile(path)
    if file.view(0, min(file.size, len(_LFS_POINTER))).tobytes() == _LFS_POINTER:
        raise ConvertError(f"{path}: is a Git LFS pointer, not the file itself; fetch that with `git lfs pull`")
    return file


def read_bytes(path: Path) -> bytes:
    """A whole file of moderate size."""
    try:
        if path.stat().st_size > _LARGEST_JSON_BYTES:
            raise ConvertError(f"{path}: has {path.stat().st_size:,} bytes, more than such a file ever needs")
        return path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A whole text file in UTF-8."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: is no UTF-8 text (byte {error.start})") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds."""
    return parse_json(read_bytes(path), path)


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """The object that JSON text holds; `path` is for messages."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path}: is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{path}: must hold a JSON object, and holds a {type(value).__name__}")
    return value


def read_optional_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file that need not exist."""
    return read_json(path) if path.is_file() else {}
