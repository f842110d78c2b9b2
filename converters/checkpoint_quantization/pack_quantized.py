"""compressed-tensors' form "pack-quantized": integers in 32-bit words.

    NAME.weight_packed      int32 (n_out, n_in * bits / 32)      codes, packed along the inputs
    NAME.weight_scale       float (n_out, n_groups)
    NAME.weight_shape       int64 (2,)                           n_out, n_in
    NAME.weight_zero_point  int32 (n_out * bits / 32, n_groups)  packed along the outputs; int8 (n_out, n_groups) in
                                                                 first releases; without it weights are symmetric
    NAME.weight_g_idx       int32 (n_in,)                        the group of each input; without it they follow

Codes and zeros are stored with 2^(bits - 1) added: weight = weight_scale * (code - zero).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..fields import Fields
from ..lazy_tensor import LazyTensor, selectable
from ..stored_types import U8
from .integer_groups import IntegerGroups
from .modules import Module, split_modules
from .packed_integers import along_columns, along_rows
from .unpacked import Unpacked

FORMAT = "pack-quantized"
_BITS = (2, 4, 8)  # of 3 bits, releases differ in how they cross words
_FLOATS = ("f16", "bf16", "f32")
_ENDINGS = ("weight_scale", "weight_shape", "weight_zero_point", "weight_g_idx")


def unpack(tensors: Mapping[str, LazyTensor], section: Fields) -> Unpacked:
    """Raises ConvertError for parts that contradict each other or the config."""
    groups = section.inside("config_groups")
    schemes = [groups.inside(name).inside("weights") for name in groups.values]
    all_bits = {scheme.get("num_bits", int) for scheme in schemes}
    have_zeros = bool(schemes) and not any(scheme.get("symmetric", bool, True) for scheme in schemes)
    modules, others = split_modules(tensors, section, "weight_packed", _ENDINGS)
    return Unpacked(others | {f"{module.name}.weight": _weight(module, all_bits, have_zeros) for module in modules})


def _weight(module: Module, all_bits: set[int], has_zeros: bool) -> LazyTensor:
    """`all_bits` are those that the config names; its groups do not say by name which module is in which."""
    words, scales = module.part("weight_packed", ("i32",), 2), module.part("weight_scale", _FLOATS, 2)
    n_out, n_in = words.n_rows, _n_in(module, words.n_rows)
    bits = words.shape[1] * 32 // n_in
    n_groups = scales.shape[1]
    if bits not in all_bits or bits not in _BITS or words.shape[1] != -(-n_in * bits // 32):
        raise module.error(
            "weight_packed",
            f"has {words.shape[1]} words for {n_in} inputs; codes of {_BITS} bits can be converted, and the config "
            f"names {tuple(sorted(all_bits))}",
        )
    if has_zeros:
        module.part("weight_zero_point", ("i32", "i8"), 2)
    module.check_shape("weight_scale", (n_out, n_groups), f"for {n_out} outputs")
    group_of = _group_of(module, n_in, n_groups)
    zeros = _zeros(module, bits, (n_out, n_groups))
    return IntegerGroups(along_rows(words, bits, n_in), scales, zeros, bits, group_of).weight()


def _n_in(module: Module, n_out: int) -> int:
    module.part("weight_shape", ("i32", "i64"), 1)
    module.check_shape("weight_shape", (2,), "with two dimensions")
    stated = [int(size) for size in module.parts["weight_shape"].raw(0, 2)]
    if stated[0] != n_out or stated[1] < 1:
        raise module.error("weight_shape", f"says {stated}, and weight_packed has {n_out} rows")
    return stated[1]


def _zeros(module: Module, bits: int, shape: tuple[int, int]) -> LazyTensor:
    middle = 1 << (bits - 1)
    if "weight_zero_point" not in module.parts:
        return selectable(shape, U8, lambda rows: np.full((_count(rows), shape[1]), middle, np.uint8))
    stored = module.part("weight_zero_point", ("i32", "i8"), 2)
    if stored.stored.name == "i8":
        module.check_shape("weight_zero_point", shape, f"with scales of {shape}")
        return selectable(shape, U8, lambda rows: stored.select(rows).view(np.uint8) + np.uint8(middle))
    wanted = (-(-shape[0] * bits // 32), shape[1])
    module.check_shape("weight_zero_point", wanted, f"with {bits} bits and scales of {shape}")
    return along_columns(stored, bits, shape[0])


def _count(rows: slice | NDArray[np.intp]) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _group_of(module: Module, n_in: int, n_groups: int) -> NDArray[np.intp]:
    if n_in % n_groups:
        raise module.error("weight_scale", f"has {n_groups} groups, which do not divide {n_in} inputs")
    return module.group_numbers("weight_g_idx", n_in, n_groups)
