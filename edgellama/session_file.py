"""Sessions on disk: a sequence's ids and its part of the cache, written atomically and proved before they are used.

    magic 8 bytes, length of the head 4 bytes (little-endian), head: JSON, zeros up to a multiple of 64,
    ids int32 (n_tokens,), cache pages in order, of each page keys and values of each layer in turn,
    a note: UTF-8 text of whoever saved it, SHA-256 of all bytes before it.

The head says which model (a digest), which kind of cache, how many tokens and bytes of note. Cache bytes are the same
for every instruction set.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import system
from .errors import EdgellamaError
from .frame import PAGE_POSITIONS

if TYPE_CHECKING:
    from .model import Model
    from .session import Session

MAGIC, VERSION = b"EDGESESS", 1
_MOST_HEAD_BYTES = 4096
_DIGEST_BYTES = 32


def save(session: "Session", path: str | os.PathLike[str], note: str) -> None:
    """Write a session; call it under the model's lock. Raises EdgellamaError if the file cannot be written."""
    hasher = hashlib.sha256()
    try:
        with system.atomic_file(path, private=True) as file:
            for data in _contents(session, note.encode()):
                file.write(data)
                hasher.update(data)
            file.write(hasher.digest())
    except OSError as error:
        raise EdgellamaError(f"{path}: the session cannot be saved: {error.strerror or error}") from error


def load(session: "Session", path: str | os.PathLike[str], read_note: Callable[[str], Any]) -> Any:
    """Make a file's sequence the session's; call it under the model's lock. What `read_note` makes of the note.

    Any problem, also one that `read_note` raises, leaves the session as it is.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is empty"
        raise EdgellamaError(f"{path}: the session cannot be read: {reason}") from error
    ids, pages, note = _check(session.model, data, Path(path))
    try:
        result = read_note(note)
    except EdgellamaError as error:
        raise EdgellamaError(f"{path}: {error}") from error
    session.truncate(0)
    session.model.pages.reserve(session.slot, len(ids))
    position = 0
    for target in _cache(session, len(ids)):
        target[:] = pages[position : position + len(target)]
        position += len(target)
    session.ids = ids.tolist()
    return result


def _contents(session: "Session", note: bytes) -> Iterator[bytes | np.ndarray]:
    yield _head_bytes(_head(session.model, session.n_tokens, len(note)))
    yield np.array(session.ids, "<i4").tobytes()
    yield from _cache(session, session.n_tokens)
    yield note


def _cache(session: "Session", n_tokens: int) -> Iterator[np.ndarray]:
    """The cache arrays of a session's first n_tokens, in the file's order."""
    pages = session.model.frame.page_table[session.slot, : _page_count(n_tokens)].tolist()
    for page in pages:
        yield from session.model.machine.cache_page(page)


def _page_count(n_tokens: int) -> int:
    return -(-n_tokens // PAGE_POSITIONS)


def _head(model: "Model", n_tokens: int, n_note_bytes: int) -> dict[str, Any]:
    facts = {"version": VERSION, "model": model.digest, "kv_type": model.kv_type}
    return facts | {"n_tokens": n_tokens, "n_note_bytes": n_note_bytes}


def _head_bytes(head: dict[str, Any]) -> bytes:
    text = json.dumps(head).encode()
    start = MAGIC + struct.pack("<I", len(text)) + text
    return start + bytes(-len(start) % 64)


def _check(model: "Model", data: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """ids int32 (n_tokens,), cache bytes and note of a file that is complete and of this model; else EdgellamaError."""
    head, start = _read_head(data, path)
    reasons = {"version": "another version of this format", "model": "another model", "kv_type": "another kv_type"}
    for key, reason in reasons.items():
        if head.get(key) != _head(model, 0, 0)[key]:
            raise EdgellamaError(f"{path}: this session was saved with {reason} ({str(head.get(key))[:70]})")
    n_tokens, n_note_bytes = _count(head, "n_tokens", model.context, path), _count(head, "n_note_bytes", 1 << 30, path)
    pages_start = start + 4 * n_tokens
    note_start = pages_start + _page_count(n_tokens) * model.page_bytes
    if len(data) != note_start + n_note_bytes + _DIGEST_BYTES:
        raise EdgellamaError(f"{path}: this session file is incomplete or damaged (its length is wrong)")
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:].tobytes():
        raise EdgellamaError(f"{path}: this session file is damaged (its checksum is wrong)")
    ids = data[start:pages_start].view("<i4")
    if len(ids) and not 0 <= ids.min() <= ids.max() < model.config.vocab_size:
        raise EdgellamaError(f"{path}: this session holds a token outside the vocabulary")
    note = data[note_start:-_DIGEST_BYTES].tobytes().decode(errors="replace")
    return ids, data[pages_start:note_start], note


def _count(head: dict[str, Any], key: str, most: int, path: Path) -> int:
    value = head.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise EdgellamaError(f"{path}: {key} of this session is {value!r}, and 0 to {most} are possible here")
    return value


def _read_head(data: np.ndarray, path: Path) -> tuple[dict[str, Any], int]:
    """The head, and where the ids begin."""
    if data[: len(MAGIC)].tobytes() != MAGIC or len(data) < 12:
        raise EdgellamaError(f"{path}: is no session file")
    (length,) = struct.unpack("<I", data[8:12].tobytes())
    try:
        head = json.loads(data[12 : 12 + min(length, _MOST_HEAD_BYTES)].tobytes())
    except (ValueError, RecursionError):  # JSON's errors, Unicode's, and brackets in brackets
        head = None
    if not isinstance(head, dict):
        raise EdgellamaError(f"{path}: this session file is damaged (its head is unreadable)")
    return head, 12 + length + -(12 + length) % 64


def model_digest(model: "Model") -> str:
    """SHA-256 over the model's numbers, constants and tensor table and a sample of every tensor, as hexadecimal.

    Reading all of a file of many gigabytes would take longer than evaluating what a session saves.
    """
    hasher = hashlib.sha256()
    for tensor in model.file.tensors.values():
        data = tensor.data
        hasher.update(repr((tensor.name, tensor.type_name, tensor.shape)).encode())
        hasher.update(data[:1024].tobytes() + data[len(data) // 2 :][:1024].tobytes() + data[-1024:].tobytes())
    for constant in model.machine.program.constants():  # RoPE's frequencies may depend on the context
        hasher.update(constant.values.tobytes())
    hasher.update(repr(model.config).encode())
    return hasher.hexdigest()
