"""One file per source format: each says what it recognises and opens it as a Checkpoint.

An adapter or a difference is no model alone: with `base` of the options it is opened as the sum of both.
"""

from pathlib import Path

from ..errors import ConvertError
from . import adapted, delta, hugging_face, llama2c, meta, peft_adapter
from .checkpoint import Checkpoint, SourceOptions

_FORMATS = (hugging_face, meta, llama2c)  # asked in this order


def open_checkpoint(path: Path, options: SourceOptions | None = None) -> Checkpoint:
    """The checkpoint in a folder or file. Raises ConvertError, one sentence, when it is none or contradicts itself."""
    options = options or SourceOptions()
    if peft_adapter.recognises(path):
        return adapted.open_checkpoint(path, options, _open_whole)
    if options.base:
        return delta.open_checkpoint(path, options, _open_whole)
    return _open_whole(path, options)


def _open_whole(path: Path, options: SourceOptions) -> Checkpoint:
    if not path.exists():
        raise ConvertError(f"{path}: no such file or folder")
    if peft_adapter.recognises(path):
        raise ConvertError(f"{path}: is a LoRA adapter too, and --base names a whole model")
    for source_format in _FORMATS:
        if source_format.recognises(path):
            return source_format.open_checkpoint(path, options)
    known = "; ".join(source_format.DESCRIPTION for source_format in (*_FORMATS, adapted))
    raise ConvertError(f"{path}: is no checkpoint of a known kind, which are: {known}")
