"""GPTQ (https://arxiv.org/abs/2210.17323, Frantar et al. 2022) as AutoGPTQ and GPTQModel save it.

    NAME.qweight  int32 (n_in * bits / 32, n_out)      codes, packed along the inputs
    NAME.qzeros   int32 (n_groups, n_out * bits / 32)  zeros, packed along the outputs
    NAME.scales   float (n_groups, n_out)
    NAME.g_idx    int32 (n_in,)                        the group of each input; without it they follow each other

weight[out, in] = scales[group, out] * (code - zero). The format "gptq" stores zeros minus one, "gptq_v2" as they are.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor, transposed
from .integer_groups import IntegerGroups
from .modules import Module, split_modules
from .packed_integers import along_columns, along_rows, mapped
from .unpacked import Unpacked

_BITS = (2, 3, 4, 8)
_FORMATS = ("gptq", "gptq_v2")
_FLOATS = ("f16", "bf16", "f32")
_TESTED_ROWS = 64  # whose zeros tell what "symmetric" means in a checkpoint


def unpack(tensors: Mapping[str, LazyTensor], section: Fields) -> Unpacked:
    """Raises ConvertError for parts that contradict each other or the config."""
    reader = _Reader(section)
    modules, others = split_modules(tensors, section, "qweight", ("qzeros", "scales", "g_idx"))
    weights = {f"{module.name}.weight": reader.weight(module) for module in modules}
    return Unpacked(_without_empty_biases(others, modules) | weights, tuple(reader.notes))


class _Reader:
    """Makes weights of modules by one config."""

    def __init__(self, section: Fields):
        self.bits = section.get("bits", int)
        self.group_size = section.get("group_size", int, -1)
        self.is_act_order = section.get("desc_act", bool, False)
        self.is_symmetric = section.get("sym", bool, False)
        self.is_mixed = bool(section.values.get("dynamic"))  # single modules may have other bits and groups
        self.format = section.get(("checkpoint_format", "format"), str, "gptq")
        self.notes: list[str] = []
        if self.format not in _FORMATS:
            raise ConvertError(f"{section.path}: its GPTQ format is {self.format[:40]!r}; {_FORMATS} can be converted")
        _check_bits(self.bits, str(section.path))

    def weight(self, module: Module) -> LazyTensor:
        qweight, qzeros = (module.part(ending, ("i32",), 2) for ending in ("qweight", "qzeros"))
        scales = module.part("scales", _FLOATS, 2)
        n_groups, n_out = scales.shape
        bits = qzeros.shape[1] * 32 // n_out if self.is_mixed else self.bits
        _check_bits(bits, f"{module.where}: module {module.name[:80]!r}")
        n_in = qweight.n_rows * 32 // bits
        if n_out * bits % 32:
            raise module.error("scales", f"has {n_out} outputs, whose zeros of {bits} bits fill no whole words")
        module.check_shape("qweight", (n_in * bits // 32, n_out), f"with {bits} bits and scales of {scales.shape}")
        module.check_shape("qzeros", (n_groups, n_out * bits // 32), f"with {bits} bits and scales of {scales.shape}")
        return IntegerGroups(
            along_rows(transposed(qweight), bits, n_in),
            transposed(scales),
            self._zeros(along_columns(transposed(qzeros), bits, n_out), bits),
            bits,
            self._group_of(module, n_in, n_groups),
        ).weight()

    def _zeros(self, stored: LazyTensor, bits: int) -> LazyTensor:
        """Modulo 2^bits, as the quantizer's zeros are codes: one that was 0 is stored as the largest."""
        if self.format == "gptq_v2" or self._are_unshifted(stored, bits):
            return stored
        return mapped(stored, lambda zeros: (zeros + np.uint8(1)) & np.uint8((1 << bits) - 1))

    def _are_unshifted(self, stored: LazyTensor, bits: int) -> bool:
        """Some releases of GPTQModel write zeros as they are and call it "gptq"; symmetric ones give them away."""
        middle = 1 << (bits - 1)
        found = self.is_symmetric and (stored.raw(0, min(_TESTED_ROWS, stored.n_rows)) == middle).all()
        if found and not self.notes:
            self.notes.append("the config says format gptq, and the zeros are those of gptq_v2; they are taken as such")
        return bool(found)

    def _group_of(self, module: Module, n_in: int, n_groups: int) -> NDArray[np.intp]:
        size = n_in if self.group_size < 1 else self.group_size
        if not self.is_mixed and -(-n_in // size) != n_groups:
            raise module.error(
                "scales", f"has {n_groups} groups, and {n_in} inputs in groups of {size} need {-(-n_in // size)}"
            )
        if self.is_act_order and n_groups > 1:
            module.part("g_idx", ("i32", "i64"), 1)
        return module.group_numbers("g_idx", n_in, n_groups)


def _check_bits(bits: int, what: str) -> None:
    if bits not in _BITS:
        raise ConvertError(f"{what}: has codes of {bits} bits; those of {', '.join(map(str, _BITS))} can be converted")


def _without_empty_biases(tensors: Mapping[str, LazyTensor], modules: list[Module]) -> dict[str, LazyTensor]:
    """AutoGPTQ gave every module a bias; those of zeros are none of the model's."""
    biases = {f"{module.name}.bias" for module in modules} & tensors.keys()
    empty = {name for name in biases if not tensors[name].rows(0, tensors[name].n_rows).any()}
    return {name: tensor for name, tensor in tensors.items() if name not in empty}
