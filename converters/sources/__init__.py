"""One file per source format: each says what it recognises and opens it as a Checkpoint."""

from pathlib import Path

from ..errors import ConvertError
from . import hugging_face, llama2c, meta
from .checkpoint import Checkpoint, SourceOptions

_FORMATS = (hugging_face, meta, llama2c)  # asked in this order


def open_checkpoint(path: Path, options: SourceOptions | None = None) -> Checkpoint:
    """The checkpoint in a folder or file. Raises ConvertError, one sentence, when it is none or contradicts itself."""
    if not path.exists():
        raise ConvertError(f"{path}: no such file or folder")
    for source_format in _FORMATS:
        if source_format.recognises(path):
            return source_format.open_checkpoint(path, options or SourceOptions())
    known = "; ".join(source_format.DESCRIPTION for source_format in _FORMATS)
    raise ConvertError(f"{path}: is no checkpoint of a known kind, which are: {known}")
