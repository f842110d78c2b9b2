"""The tensors of quantized modules, found by their endings and compared with the shapes that they must have."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgellama.gguf.cursor import quoted

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor


@dataclass(frozen=True)
class Module:
    """The parts of one quantized module, such as qweight; `where` is the checkpoint's folder, for messages."""

    where: str
    name: str
    parts: Mapping[str, LazyTensor]

    def part(self, ending: str, types: tuple[str, ...], n_dimensions: int) -> LazyTensor:
        """A part that must be there. Raises ConvertError naming the tensor."""
        if ending not in self.parts:
            raise ConvertError(f"{self.where}: tensor {self._quoted(ending)} is missing; the checkpoint is incomplete")
        tensor = self.parts[ending]
        if tensor.stored.name not in types or len(tensor.shape) != n_dimensions or 0 in tensor.shape:
            raise self.error(
                ending,
                f"is {tensor.stored.name} of shape {tensor.shape}, and must be {' or '.join(types)} with "
                f"{n_dimensions} dimensions",
            )
        return tensor

    def check_shape(self, ending: str, shape: tuple[int, ...], why: str) -> None:
        """Raises ConvertError where a part has another shape than `why` asks for."""
        found = self.parts[ending].shape
        if found != shape:
            raise self.error(ending, f"has shape {found}, and {why} must have {shape}")

    def group_numbers(self, ending: str, n_in: int, n_groups: int) -> NDArray[np.intp]:
        """The group of each input, which a part may tell; without it groups of one size follow each other."""
        if ending not in self.parts:
            return np.arange(n_in) // -(-n_in // n_groups)
        numbers = self.part(ending, ("i32", "i64"), 1).raw(0, self.parts[ending].n_rows).astype(np.intp)
        self.check_shape(ending, (n_in,), f"for {n_in} inputs")
        if numbers.min() < 0 or numbers.max() >= n_groups:
            worst = numbers.min() if numbers.min() < 0 else numbers.max()
            raise self.error(ending, f"names group {worst}, and there are {n_groups}")
        return numbers

    def error(self, ending: str, fact: str) -> ConvertError:
        """An error to raise: `fact` follows the name of the part."""
        return ConvertError(f"{self.where}: tensor {self._quoted(ending)} {fact}")

    def _quoted(self, ending: str) -> str:
        return quoted(f"{self.name}.{ending}")


def split_modules(
    tensors: Mapping[str, LazyTensor], section: Fields, first: str, endings: tuple[str, ...]
) -> tuple[list[Module], dict[str, LazyTensor]]:
    """(the modules with a tensor NAME.first and what else of `endings` they have, all other tensors).

    Raises ConvertError for a module that has a plain weight too.
    """
    where = str(section.path.parent)
    names = [name.removesuffix(f".{first}") for name in tensors if name.endswith(f".{first}")]
    modules = []
    for name in names:
        parts = {ending: f"{name}.{ending}" for ending in (first, *endings)}
        module = Module(where, name, {end: tensors[full] for end, full in parts.items() if full in tensors})
        if f"{name}.weight" in tensors:
            raise module.error(first, "stands beside the same weight unquantized; only one of them can be right")
        modules.append(module)
    taken = {f"{module.name}.{ending}" for module in modules for ending in module.parts}
    return modules, {name: tensor for name, tensor in tensors.items() if name not in taken}
