"""Which tensor of the output comes from which of the checkpoint, by the records of the family."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edgellama.arch.spec import Source, TensorSpec
from edgellama.config import ModelConfig
from edgellama.gguf.cursor import quoted
from quant.tensor_roles import is_quantized

from .errors import ConvertError
from .fp8_tensor import Fp8Tensor
from .lazy_tensor import LazyTensor, of_array
from .planned_file import PlannedInfo
from .sources.checkpoint import HF, Checkpoint
from .stored_types import BF16
from .transforms import STEPS


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the output. `source` is its name in the checkpoint, empty for one that was computed."""

    name: str
    source: str
    tensor: LazyTensor

    @property
    def info(self) -> PlannedInfo:
        """What checks and recipes see. What no recipe changes becomes float32, whatever it was."""
        shape = self.tensor.shape
        type_name = _own_type(self.tensor) if is_quantized(self.name, shape) else "f32"
        return PlannedInfo(self.name, shape, type_name, self.tensor.stored.preferred)


def _own_type(tensor: LazyTensor) -> str:
    """What a recipe may want to keep of a checkpoint; "f32" where there is nothing."""
    if isinstance(tensor, Fp8Tensor):
        return f"fp8_{tensor.format_name}"
    return "bf16" if tensor.stored is BF16 else "f32"


def plan_tensors(
    checkpoint: Checkpoint, family: ModuleType, config: ModelConfig, computed: Mapping[str, NDArray[np.float32]]
) -> list[PlannedTensor]:
    """All tensors: those outside layers, then layer by layer, each in the order of the family's records.

    Raises ConvertError for a tensor that is missing, or that no record asks for.
    """
    search = _Search(checkpoint, family, config)
    planned = []
    for spec, layer in _places(family.TENSORS, config.n_layers):
        name = spec.name.format(i=layer)
        if name in computed:
            planned.append(PlannedTensor(name, "", of_array(computed[name])))
        elif found := search.find(spec, layer):
            planned.append(PlannedTensor(name, *found))
    search.refuse_left_over()
    return planned


def notes_on_missing(checkpoint: Checkpoint, family: ModuleType, planned: Sequence[PlannedTensor]) -> list[str]:
    """What the user should know of tensors that the config expects and the checkpoint lacks."""
    notes, found = [], {tensor.name for tensor in planned}
    for source in {source.name: source for source in reversed(family.SOURCES)}.values():
        expected = source.unless and not checkpoint.config.get(source.unless, bool, False)
        if expected and f"{source.name}.weight" not in found:
            name = f"{getattr(source, checkpoint.names)}.weight"
            notes.append(f"tensor {name!r} is missing; the model is taken for one with {source.unless}")
    return notes


def _places(specs: tuple[TensorSpec, ...], n_layers: int) -> Iterator[tuple[TensorSpec, int]]:
    yield from ((spec, 0) for spec in specs if not spec.per_layer)
    yield from ((spec, layer) for layer in range(n_layers) for spec in specs if spec.per_layer)


class _Search:
    """Finds the checkpoint's tensors one by one and remembers which were wanted."""

    def __init__(self, checkpoint: Checkpoint, family: ModuleType, config: ModelConfig):
        self.checkpoint, self.family, self.config = checkpoint, family, config
        self.sources: dict[str, list[Source]] = {}  # by the name in the file; the first that is there counts
        for source in family.SOURCES:
            self.sources.setdefault(source.name, []).append(source)
        prefix = getattr(family, "OPTIONAL_PREFIX", "")
        self.names = {name.removeprefix(prefix): name for name in checkpoint.tensors}  # as sources know them
        self.used: set[str] = set()

    def find(self, spec: TensorSpec, layer: int) -> tuple[str, LazyTensor] | None:
        """(name in the checkpoint, tensor after the record's steps), or None where none is wanted."""
        base, _, kind = spec.name.rpartition(".")
        sources = self.sources.get(base)
        if not sources:  # only ever computed
            return None
        wanted = [f"{getattr(source, self.checkpoint.names).format(i=layer)}.{kind}" for source in sources]
        found = next((pair for pair in zip(wanted, sources, strict=True) if pair[0] in self.names), None)
        if found is None:
            if not spec.optional and not self._has_another(spec, layer):
                name = wanted[0]
                raise ConvertError(f"{self.checkpoint.path}: tensor {name!r} is missing; the checkpoint is incomplete")
            return None
        name, source = self.names[found[0]], found[1]
        self.used.add(name)
        if source.unless and self.checkpoint.config.get(source.unless, bool, False):
            return None
        return name, self._stepped(name, source)

    def _has_another(self, spec: TensorSpec, layer: int) -> bool:
        """Whether the checkpoint has what makes this tensor superfluous."""
        base, _, kind = spec.instead.rpartition(".")
        sources = self.sources.get(base, ())
        return any(f"{getattr(s, self.checkpoint.names).format(i=layer)}.{kind}" in self.names for s in sources)

    def _stepped(self, name: str, source: Source) -> LazyTensor:
        tensor = self.checkpoint.tensors[name]
        takes = self.checkpoint.names == HF and (source.when is None or source.when(self.checkpoint.config.values))
        for step, *arguments in source.steps if takes else ():
            try:
                tensor = STEPS[step](tensor, self.config, *arguments)
            except ConvertError as error:
                raise ConvertError(f"{self.checkpoint.path}: tensor {quoted(name)} {error}") from error
        return tensor

    def refuse_left_over(self) -> None:
        for name in self.checkpoint.tensors:
            if name not in self.used and not any(fnmatchcase(name, p) for p in self.family.UNUSED_SOURCES):
                kind = self.checkpoint.config.get("model_type", str)
                raise ConvertError(f"{self.checkpoint.path}: tensor {quoted(name)} has no place in a {kind} model")
