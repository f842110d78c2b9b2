"""PyTorch files (`pytorch_model.bin`, `consolidated.00.pth`): a ZIP archive of one pickle and the storages' bytes.

The archive is not compressed, so the storages are read where they lie. Format: torch.save, PyTorch 1.6 and later.
"""

import struct
import zipfile
from pathlib import Path
from typing import Any

from edgellama.gguf.cursor import quoted
from edgellama.gguf.mapped_file import MappedFile

from ..errors import ConvertError
from ..lazy_tensor import LazyTensor, in_file, span
from ..source_file import open_source
from .pickle_reader import Storage, StridedTensor, read_pickle

_ZIP_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30  # of a ZIP member, before its name and its extra field
_LARGEST_PICKLE_BYTES = 1 << 28
_DAMAGE = (zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, OverflowError, RuntimeError)


def read_torch(path: Path) -> dict[str, LazyTensor]:
    """The tensors of one file by name. Raises ConvertError, one sentence; what the pickle asks to run is never run."""
    file = open_source(path)
    _check_magic(file)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            pickled, folder = _pickle_of(archive, members, path)
    except _DAMAGE as error:
        raise ConvertError(f"{path}: is a damaged ZIP archive: {error}") from error
    state = read_pickle(pickled, path)
    if not isinstance(state, dict):
        raise ConvertError(f"{path}: holds a {type(state).__name__}, and a table of tensors by name is needed")
    named = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, StridedTensor)}
    if not named:
        raise ConvertError(f"{path}: holds no tensors by name; save the model's state_dict() alone")
    return {name: _lazy(file, name, tensor, members, folder) for name, tensor in named.items()}


def _check_magic(file: MappedFile) -> None:
    if file.view(0, min(file.size, len(_ZIP_MAGIC))).tobytes() != _ZIP_MAGIC:
        raise ConvertError(
            f"{file.path}: is no file of PyTorch 1.6 or later; if an older one wrote it, load it with a newer one "
            "and save it again"
        )


def _pickle_of(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path) -> tuple[bytes, str]:
    """The pickle, and the folder of the archive in which it lies."""
    names = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ConvertError(f"{path}: is a ZIP archive, but none that PyTorch wrote: it has no data.pkl")
    folder = names[0].removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order and _content(archive, order, path) != b"little":
        raise ConvertError(f"{path}: was written on a big-endian machine, and only little-endian files are read")
    return _content(archive, members[names[0]], path), folder


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > _LARGEST_PICKLE_BYTES:
        raise ConvertError(f"{path}: its {member.filename} is compressed or too large, as PyTorch never writes it")
    return archive.read(member)


def _lazy(
    file: MappedFile, name: str, tensor: StridedTensor, members: dict[str, zipfile.ZipInfo], folder: str
) -> LazyTensor:
    what = f"{file.path}: tensor {quoted(name)}"
    _check_view(tensor, what)
    start, n_bytes = _place(file, tensor.storage, members, folder, what)
    size = tensor.stored.dtype.itemsize
    if (tensor.offset + span(tensor.shape, tensor.strides)) * size > n_bytes:
        raise ConvertError(f"{what} reaches past the {n_bytes} bytes of its storage")
    return in_file(file, start + tensor.offset * size, tensor.shape, tensor.stored, tensor.strides)


def _check_view(tensor: StridedTensor, what: str) -> None:
    shape, strides = tensor.shape, tensor.strides
    if not (
        _are_counts(shape) and _are_counts(strides) and _are_counts((tensor.offset,)) and len(shape) == len(strides)
    ):
        raise ConvertError(f"{what} has a shape or strides that no tensor can have")


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def _place(
    file: MappedFile, storage: Storage, members: dict[str, zipfile.ZipInfo], folder: str, what: str
) -> tuple[int, int]:
    """Where the bytes of a storage begin in the file, and how many there are."""
    member = members.get(f"{folder}data/{storage.key}")
    if member is None or member.compress_type != zipfile.ZIP_STORED:
        raise ConvertError(f"{what} lies in the storage {quoted(storage.key)}, which the archive lacks")
    header = member.header_offset
    if header < 0 or header + _LOCAL_HEADER_BYTES > file.size:
        raise ConvertError(f"{what} lies past the end of the file")
    local = file.view(header, _LOCAL_HEADER_BYTES).tobytes()
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    start = header + _LOCAL_HEADER_BYTES + lengths
    if local[:4] != _ZIP_MAGIC or start + member.file_size > file.size:
        raise ConvertError(f"{what} lies past the end of the file; it is cut short: fetch it again")
    return start, member.file_size
