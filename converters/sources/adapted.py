"""A LoRA adapter merged into its base: the base's tensors, with the adapter's changes added as they are read.

The embedding and the output matrix may also come whole and with more rows than the base's (an extended vocabulary).
Where the base shares one matrix between both, an adapter of one of them parts them, as it does in training.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from edgellama.gguf.cursor import quoted

from ..errors import ConvertError
from ..families import find_family
from ..fields import Fields
from ..lazy_tensor import LazyTensor
from ..vocabulary import has_tokenizer
from .checkpoint import HF, Checkpoint, OpenBase, SourceOptions, base_model_keys
from .peft_adapter import CONFIG, Adapter, read_adapter

DESCRIPTION = f"a folder of PEFT with {CONFIG} and adapter_model.safetensors or adapter_model.bin"


def open_checkpoint(path: Path, options: SourceOptions, open_base: OpenBase) -> Checkpoint:
    """The merged model. Raises ConvertError where the adapter does not fit the base, or no base is named."""
    if options.base is None:
        raise ConvertError(f"{path}: is a LoRA adapter; name the model that it was trained on with --base")
    adapter = read_adapter(path)
    own_tokenizer = path if options.tokenizer is None and has_tokenizer(path) else options.tokenizer
    base = open_base(options.base, replace(options, base=None, tokenizer=own_tokenizer))
    if base.names != HF:
        raise ConvertError(f"{base.path}: has other names than the adapter; its Hugging Face form is needed")
    _, family = find_family(base.config)
    if any("transpose" in step for source in family.SOURCES for step in source.steps):
        raise ConvertError(f"{base.path}: has matrices with inputs as rows; merge the adapter with PEFT first")
    notes = list(adapter.notes)
    if own_tokenizer == path:
        notes.append("the tokenizer is the one in the adapter's folder")
    base = _parted(base, family, adapter, notes)
    tensors = _merged(base, family, adapter)
    values = {**base.config.values, "vocab_size": _n_tokens(base, family, adapter, tensors)}
    return replace(
        base,
        path=path,
        tensors=tensors,
        config=Fields(values, base.config.path),
        files=(*adapter.files, *base.files),
        metadata=base.metadata | base_model_keys(base.path),
        notes=(*base.notes, *notes),
    )


def _ends(family: ModuleType) -> tuple[str, str]:
    """The modules of the embedding and of the output matrix."""
    modules = {source.name: source.hf for source in family.SOURCES}
    return modules["token_embd"], modules.get("output", "lm_head")


def _flag(family: ModuleType) -> str:
    """The field of a config that says that both are one matrix."""
    flags = (source.unless for source in family.SOURCES if source.name == "output")
    return next(flags, "") or "tie_word_embeddings"


def _parted(base: Checkpoint, family: ModuleType, adapter: Adapter, notes: list[str]) -> Checkpoint:
    """The base, with an output matrix of its own if the adapter changes only one end of a shared one."""
    embedding, output = (f"{module}.weight" for module in _ends(family))
    flag = _flag(family)
    is_shared = base.config.get(flag, bool, False) or output not in base.tensors
    if not is_shared or embedding not in base.tensors:
        return base
    parted = {**base.tensors, output: base.tensors[embedding]}
    touched = {_name_in(parted, name): adapter.replaced.get(name) for name in adapter.tensor_names}
    alone = embedding in touched and not _means_both(touched[embedding], parted[output], adapter)
    if not alone and output not in touched:
        return base
    if not any(source.name == "output" for source in family.SOURCES):
        fact = "changes one end of the model alone, and files of this family have one matrix for both"
        raise ConvertError(f"{adapter.path}: {fact}")
    notes.append("the base uses one matrix as embedding and output; the adapter parts them, so the file has both")
    return replace(base, tensors=parted, config=Fields({**base.config.values, flag: False}, base.config.path))


def _means_both(replacement: LazyTensor | None, shared: LazyTensor, adapter: Adapter) -> bool:
    """Whether an adapter of the embedding alone means the output too: it says so, or has rows for more tokens."""
    grown = replacement is not None and replacement.n_rows != shared.n_rows
    return grown or adapter.config.get("ensure_weight_tying", bool, False)


def _merged(base: Checkpoint, family: ModuleType, adapter: Adapter) -> dict[str, LazyTensor]:
    growing = [f"{module}.weight" for module in _ends(family)]
    tensors = dict(base.tensors)
    for given, tensor in adapter.replaced.items():
        name = _found(base, adapter, given)
        first = 1 if name in growing else 0  # of the dimensions that must be the same
        if tensor.shape[first:] != tensors[name].shape[first:]:
            raise _misfit(base, adapter, given, tensor.shape, tensors[name].shape)
        tensors[name] = tensor
    for module, change in adapter.changes.items():
        name = _found(base, adapter, f"{module}.weight")
        if change.shape != tensors[name].shape:
            raise _misfit(base, adapter, name, change.shape, tensors[name].shape)
        tensors[name] = change.added_to(tensors[name])
    return tensors


def _name_in(tensors: Mapping[str, LazyTensor], given: str) -> str | None:
    """The base's name of an adapter's tensor; an adapter trained without the output matrix lacks the first word."""
    return next((name for name in (given, f"model.{given}") if name in tensors), None)


def _found(base: Checkpoint, adapter: Adapter, given: str) -> str:
    name = _name_in(base.tensors, given)
    if name is None:
        raise ConvertError(
            f"{adapter.path}: changes {quoted(given)}, which {base.path} lacks; its base is {adapter.base_name}"
        )
    return name


def _misfit(
    base: Checkpoint, adapter: Adapter, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]
) -> ConvertError:
    return ConvertError(
        f"{adapter.path}: changes {quoted(name)} as one of shape {shape}, and in {base.path} it has {wanted}; its base "
        f"is {adapter.base_name}"
    )


def _n_tokens(base: Checkpoint, family: ModuleType, adapter: Adapter, tensors: Mapping[str, LazyTensor]) -> int:
    embedding, output = (tensors.get(f"{module}.weight") for module in _ends(family))
    if embedding is None:
        return base.config.get("vocab_size", int)
    if output is not None and output.n_rows != embedding.n_rows and not base.config.get(_flag(family), bool, False):
        raise ConvertError(
            f"{adapter.path}: makes an embedding of {embedding.n_rows} tokens and an output of {output.n_rows}; one of "
            "the two was not saved with it (PEFT's modules_to_save)"
        )
    return embedding.n_rows
