"""The whole way from a checkpoint to a GGUF file: open, plan, check, and only then write."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from gguf.utility import size_label

from edgellama import system
from edgellama.arch.spec import check_tensors
from edgellama.config import ModelConfig
from edgellama.tokenizer import from_gguf

from . import encoding
from .checkpoint_quantization.notes import notes_on_groups
from .column_order import absorb_column_orders
from .digests import SourceDigests, source_keys
from .errors import ConvertError
from .families import find_family, in_common_spelling
from .metadata import general_keys, model_keys, notes_on_window
from .outputs import OutputTensor, header_bytes, place
from .partial_file import fingerprint, partial_file, partial_path
from .plan import notes_on_missing, plan_tensors
from .planned_file import PlannedFile, PlannedInfo
from .rope_scaling import Rope
from .sources import open_checkpoint
from .sources.checkpoint import Checkpoint, SourceOptions
from .vocabulary.vocabulary import SENTENCEPIECE
from .writer import data_bytes, write_data


@dataclass(frozen=True)
class ConvertOptions:
    """What the caller may choose; None leaves it to the checkpoint. `fp8_granularity` of what is rounded to FP8.

    Without a type, weights in FP8 or of integers in groups stay so, and all others become f16.
    """

    type_name: str | None = None
    name: str | None = None
    context: int | None = None
    source: SourceOptions = field(default_factory=SourceOptions)
    fp8_granularity: str = "row"


@dataclass(frozen=True)
class Conversion:
    """A checked plan of a file that is not written yet."""

    checkpoint: Checkpoint
    architecture: str
    metadata: Mapping[str, Any]
    outputs: list[OutputTensor]
    notes: list[str]

    @property
    def data_bytes(self) -> int:
        """Bytes of the tensors."""
        return data_bytes(self.outputs)


def plan_conversion(source: str | os.PathLike[str], options: ConvertOptions | None = None) -> Conversion:
    """Open a checkpoint and prove that the file made of it would load; nothing is written.

    Raises ConvertError, or the runtime's ModelError, one sentence each.
    """
    options = options or ConvertOptions()
    checkpoint = open_checkpoint(Path(source), options.source)
    model = read_model(checkpoint, options.context)
    vocabulary = checkpoint.vocabulary(model.config.vocab_size)
    if hasattr(model.family, "APPENDED_TOKENS") and vocabulary.model == SENTENCEPIECE:
        vocabulary.append(model.family.APPENDED_TOKENS, model.family.PREFIX_TOKENS)
    checkpoint = replace(checkpoint, tensors=absorb_column_orders(checkpoint, model.family, model.config.n_layers))
    planned = plan_tensors(checkpoint, model.family, model.config, model.rope.tensors)
    keys = model.keys | vocabulary.metadata()
    file = PlannedFile(checkpoint.path, model.architecture, keys, [tensor.info for tensor in planned])
    check_tensors(file, model.config, model.family.TENSORS)
    from_gguf(file)  # the runtime's own checks of a vocabulary
    types, file_type = encoding.choose(file, options.type_name)
    outputs, fp8_keys = place(planned, types, options.fp8_granularity)
    general = general_metadata(options, checkpoint, outputs, file_type)
    metadata = general | model.keys | checkpoint.metadata | vocabulary.metadata() | fp8_keys
    notes = [*checkpoint.notes, *model.notes, *vocabulary.notes, *notes_on_missing(checkpoint, model.family, planned)]
    notes += notes_on_groups(outputs)
    return Conversion(checkpoint, model.architecture, metadata, outputs, notes)


def write_conversion(
    conversion: Conversion,
    target: str | os.PathLike[str],
    threads: int | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a planned file; `progress` is told the bytes of tensors done and of all.

    The file appears under its name when it is complete and synced. `resume` goes on where a killed run of the same
    conversion stopped. Raises ConvertError for NaN or infinity in a tensor, and when the disk is too small.
    """
    target = Path(target)
    checkpoint, total = conversion.checkpoint, conversion.data_bytes
    header = _header(conversion, source_keys(checkpoint.files))
    _check_target(conversion, target, len(header) + total)
    encoding.prepare(conversion.outputs)
    mark = fingerprint(header, checkpoint.files)
    digests = SourceDigests(checkpoint.files, checkpoint.sha256)
    with digests, partial_file(target, header, mark, resume) as partial:

        def report(done: int) -> None:
            partial.note(done)
            if progress:
                progress(done, total)

        n_threads = threads or system.default_worker_limit()
        write_data(partial.file, conversion.outputs, str(checkpoint.path), n_threads, partial.done, report)
        partial.replace_header(_header(conversion, digests.keys()))
    return target


@dataclass(frozen=True)
class ReadModel:
    """What a checkpoint's config says: the keys `{architecture}.*`, and the config as the runtime will read them."""

    architecture: str
    family: ModuleType
    keys: dict[str, Any]
    rope: Rope
    config: ModelConfig

    @property
    def notes(self) -> list[str]:
        return [*self.rope.notes, *notes_on_window(self.architecture, self.keys)]


def read_model(checkpoint: Checkpoint, context: int | None) -> ReadModel:
    """The family of a checkpoint, and what its config says. Raises ConvertError or ModelError."""
    architecture, family = find_family(checkpoint.config)
    keys, rope = model_keys(architecture, family, in_common_spelling(family, checkpoint.config), context)
    computed = [PlannedInfo(name, values.shape, "f32") for name, values in rope.tensors.items()]
    file = PlannedFile(checkpoint.path, architecture, keys, computed)
    config = ModelConfig.from_gguf(file, keys[f"{architecture}.vocab_size"])
    return ReadModel(architecture, family, keys, rope, config)


def _header(conversion: Conversion, source: Mapping[str, Any]) -> bytes:
    return header_bytes(conversion.architecture, {**conversion.metadata, **source}, conversion.outputs)


def general_metadata(
    options: ConvertOptions, checkpoint: Checkpoint, outputs: list[OutputTensor], file_type: int
) -> dict[str, Any]:
    """The keys `general.*`; the name is the caller's choice, or that of the checkpoint's folder or file."""
    n_values = sum(output.tensor.n_rows * output.tensor.row_values for output in outputs)
    name = options.name or (checkpoint.path.resolve().name if checkpoint.path.is_dir() else checkpoint.path.stem)
    return general_keys(name, size_label(n_values, n_values, 0, 0), file_type)


def _check_target(conversion: Conversion, target: Path, n_bytes: int) -> None:
    """The folder exists, no source file is overwritten, and there is room."""
    if target.is_dir():
        raise ConvertError(f"{target}: is a folder; name the file to write")
    if not target.parent.is_dir():
        raise ConvertError(f"{target}: its folder does not exist")
    for source in conversion.checkpoint.files:
        if target.exists() and target.samefile(source):
            raise ConvertError(f"{target}: is the checkpoint itself; name another file")
    partial = partial_path(target)
    room = system.free_disk_bytes(target.parent) + (partial.stat().st_size if partial.exists() else 0)
    if n_bytes > room:
        raise ConvertError(f"{target}: needs {n_bytes:,} bytes, and the disk has {room:,} left")
