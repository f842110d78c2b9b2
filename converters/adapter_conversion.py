"""A LoRA adapter as a GGUF file of its own, for runtimes that add it to the base while they compute.

Layout, as llama.cpp reads it: for the weight NAME, `NAME.lora_a` (rank, n_in) and `NAME.lora_b` (n_out, rank), and for
the embedding `lora_a` by tokens. One alpha serves all: the product counts alpha / rank times. What other scales an
adapter has (rank-stabilized ones, an alpha for each module) is multiplied into `lora_b`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gguf import LlamaFileType

from edgellama.arch.spec import MATRIX, Source, dimensions
from edgellama.gguf.cursor import quoted

from .conversion import Conversion, ConvertOptions, ReadModel, general_metadata, read_model
from .errors import ConvertError
from .fields import Fields
from .lazy_tensor import LazyTensor
from .low_rank import LowRank, scaled, turned
from .outputs import OutputTensor
from .source_file import read_json
from .sources.checkpoint import HF, Checkpoint, base_model_keys
from .sources.peft_adapter import Adapter, read_adapter, recognises
from .transforms import STEPS

_FILE_TYPES = {"f32": int(LlamaFileType.ALL_F32), "f16": int(LlamaFileType.MOSTLY_F16)}
_EMBEDDING = "token_embd.weight"


def plan_adapter(source: str | os.PathLike[str], options: ConvertOptions) -> Conversion:
    """A checked plan of an adapter's file. Of the base in `options.source` only config.json is read.

    Raises ConvertError, or the runtime's ModelError, one sentence each.
    """
    path, base = Path(source), options.source.base
    if not recognises(path):
        raise ConvertError(f"{path}: is no folder with adapter_config.json, and only an adapter can be kept as one")
    if base is None:
        raise ConvertError(f"{path}: is a LoRA adapter; name the model that it was trained on with --base")
    type_name = options.type_name or "f16"
    if type_name not in _FILE_TYPES:
        raise ConvertError(f"an adapter is kept as {' or '.join(_FILE_TYPES)}, not as {type_name[:40]}")
    adapter = read_adapter(path)
    checkpoint = _without_tensors(base, adapter)
    model = read_model(checkpoint, options.context)
    fitting = _Fitting(adapter, checkpoint.config, base, model)
    outputs = [
        OutputTensor(f"{weight.name}.lora_{end}", part, type_name, f"{weight.module}.lora_{end.upper()}")
        for weight, *parts in fitting.pairs()
        for end, part in zip("ab", parts, strict=True)
    ]
    metadata = general_metadata(options, checkpoint, outputs, _FILE_TYPES[type_name]) | base_model_keys(base)
    metadata |= {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": fitting.alpha}
    return Conversion(checkpoint, model.architecture, metadata, outputs, list(adapter.notes))


def _without_tensors(base: Path, adapter: Adapter) -> Checkpoint:
    """The base without its tensors, under the adapter's name."""
    path = base / "config.json"
    if not path.is_file():
        raise ConvertError(f"{base}: has no config.json, which tells how the adapter's tensors are laid out")
    files = (*adapter.files, path)
    return Checkpoint(adapter.path, HF, {}, Fields(read_json(path), path), _no_vocabulary, files)


def _no_vocabulary(n_rows: int) -> None:
    raise NotImplementedError("an adapter's file has no tokens")


def _with_one_alpha(adapter: Adapter) -> tuple[float, dict[str, LowRank]]:
    """The alpha of the first change, and all changes with what else they need multiplied into `b`."""
    first = next(iter(adapter.changes.values()))
    alpha = first.scale * first.rank
    changes = {
        module: replace(change, b=scaled(change.b, change.scale * change.rank / alpha))
        for module, change in adapter.changes.items()
    }
    return alpha, changes


@dataclass(frozen=True)
class _Weight:
    """A matrix of the family, in one layer: its name in GGUF files, where it comes from, its shape there."""

    name: str
    module: str
    source: Source
    shape: tuple[int, ...]


def _weights(model: ReadModel) -> Iterator[_Weight]:
    """In the order of the family's records."""
    sources, sizes = {source.name: source for source in model.family.SOURCES}, dimensions(model.config)
    for spec in model.family.TENSORS:
        if spec.role != MATRIX:
            continue
        source, shape = sources.get(spec.name.removesuffix(".weight")), tuple(sizes[symbol] for symbol in spec.shape)
        if source is None:  # a tensor that only other converters write
            continue
        for layer in range(model.config.n_layers if spec.per_layer else 1):
            yield _Weight(spec.name.format(i=layer), source.hf.format(i=layer), source, shape)


class _Fitting:
    """Finds the change of every weight, and says what a GGUF adapter cannot hold."""

    def __init__(self, adapter: Adapter, config: Fields, base: Path, model: ReadModel):
        self.adapter, self.config, self.base, self.model = adapter, config, base, model
        self.alpha, self.changes = _with_one_alpha(adapter)

    def pairs(self) -> Iterator[tuple[_Weight, LazyTensor, LazyTensor]]:
        """(weight, lora_a, lora_b). Raises ConvertError for a change that fits no weight, or cannot be kept."""
        left = dict(self.changes)
        for weight in _weights(self.model):
            module = next(
                (name for name in (weight.module, weight.module.removeprefix("model.")) if name in left), None
            )
            if module is not None:
                yield self._pair(weight, module, left.pop(module))
        for module in left:
            raise ConvertError(self._refusal(module, "is no weight of the base"))
        self._refuse_replaced()

    def _pair(self, weight: _Weight, module: str, change: LowRank) -> tuple[_Weight, LazyTensor, LazyTensor]:
        is_embedding = weight.name == _EMBEDDING
        if change.shape != weight.shape:
            raise ConvertError(self._refusal(module, f"has shape {weight.shape} in the base, not {change.shape}"))
        if change.magnitude:
            raise ConvertError(self._refusal(module, "is changed by DoRA, which must be merged"))
        if self._is_shared(weight):
            raise ConvertError(self._refusal(module, "is embedding and output in one, whose change must be merged"))
        a, b = change.a, change.b
        for step, *arguments in weight.source.steps:  # all steps there are move whole rows, which are those of B
            b = STEPS[step](b, self.model.config, *arguments)
        return weight, turned(a) if is_embedding else a, b

    def _is_shared(self, weight: _Weight) -> bool:
        flags = [source.unless for source in self.model.family.SOURCES if source.unless]
        ends = (_EMBEDDING, "output.weight")
        return weight.name in ends and any(self.config.get(flag, bool, False) for flag in flags)

    def _refuse_replaced(self) -> None:
        """Whole tensors; not the copy of the base's embedding that PEFT saves beside a change of it."""
        for name, tensor in self.adapter.replaced.items():
            change = self.changes.get(name.removesuffix(".weight"))
            if change is None or change.shape != tensor.shape:
                raise ConvertError(self._refusal(name, "is replaced as a whole, which must be merged"))

    def _refusal(self, name: str, fact: str) -> str:
        return f"{self.adapter.path}: cannot be kept as an adapter of {self.base}: {quoted(name)} {fact}"
