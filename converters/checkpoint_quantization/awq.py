"""AWQ (https://arxiv.org/abs/2306.00978, Lin et al. 2023) as AutoAWQ saves it: 4-bit codes, always with zeros.

    version     GEMM                               GEMV
    NAME.qweight  int32 (n_in, n_out / 8)          int32 (n_out, n_in / 8)
    NAME.qzeros   int32 (n_groups, n_out / 8)      int32 (n_out, padded n_groups / 8)
    NAME.scales   float (n_groups, n_out)          float (n_out, padded n_groups)

weight[out, in] = scales[group, out] * (code - zero). The words of GEMM hold outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ..errors import ConvertError
from ..fields import Fields
from ..lazy_tensor import LazyTensor, transposed
from .integer_groups import IntegerGroups
from .modules import Module, split_modules
from .packed_integers import along_columns, along_rows, mapped
from .unpacked import Unpacked

_BITS = 4
_PACKED = 32 // _BITS
_GEMM_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_FLOATS = ("f16", "bf16", "f32")


def unpack(tensors: Mapping[str, LazyTensor], section: Fields) -> Unpacked:
    """Raises ConvertError for parts that contradict each other or the config."""
    bits = section.get(("bits", "w_bit"), int)
    group_size = section.get(("group_size", "q_group_size"), int)
    version = section.get(("version", "checkpoint_format", "format"), str, "gemm").lower()
    if bits != _BITS:
        raise ConvertError(f"{section.path}: has AWQ codes of {bits} bits; those of 4 can be converted")
    if version not in _VERSIONS:
        raise ConvertError(f"{section.path}: its AWQ version is {version[:40]!r}; {tuple(_VERSIONS)} can be converted")
    modules, others = split_modules(tensors, section, "qweight", ("qzeros", "scales"))
    weights = {f"{module.name}.weight": _VERSIONS[version](module, group_size) for module in modules}
    return Unpacked(others | weights)


def _gemm(module: Module, group_size: int) -> LazyTensor:
    qweight, qzeros, scales = _parts(module)
    n_in, n_out = qweight.n_rows, qweight.shape[1] * _PACKED
    n_groups = _n_groups(module, n_in, group_size)
    module.check_shape("qzeros", (n_groups, n_out // _PACKED), f"beside a qweight of {qweight.shape}")
    module.check_shape("scales", (n_groups, n_out), f"beside a qweight of {qweight.shape}")
    codes, zeros = (along_columns(transposed(words), _BITS, n_out, _GEMM_ORDER) for words in (qweight, qzeros))
    return IntegerGroups(codes, transposed(scales), zeros, _BITS, np.arange(n_in) // (n_in // n_groups)).weight()


def _gemv(module: Module, group_size: int) -> LazyTensor:
    qweight, qzeros, scales = _parts(module)
    n_out, n_in = qweight.n_rows, qweight.shape[1] * _PACKED
    n_groups = _n_groups(module, n_in, group_size)
    n_padded = scales.shape[1]
    if n_padded < n_groups:
        raise module.error("scales", f"has {n_padded} groups, and {n_groups} are needed")
    module.check_shape("qzeros", (n_out, n_padded // _PACKED), f"beside a qweight of {qweight.shape}")
    module.check_shape("scales", (n_out, n_padded // _PACKED * _PACKED), f"beside a qweight of {qweight.shape}")
    zeros = along_rows(qzeros, _BITS, n_groups)
    scales = mapped(scales, lambda padded: padded[:, :n_groups], n_groups)
    codes = along_rows(qweight, _BITS, n_in)
    return IntegerGroups(codes, scales, zeros, _BITS, np.arange(n_in) // (n_in // n_groups)).weight()


_VERSIONS: dict[str, Callable[[Module, int], LazyTensor]] = {"gemm": _gemm, "gemv": _gemv}


def _parts(module: Module) -> tuple[LazyTensor, LazyTensor, LazyTensor]:
    return (
        module.part("qweight", ("i32",), 2),
        module.part("qzeros", ("i32",), 2),
        module.part("scales", _FLOATS, 2),
    )


def _n_groups(module: Module, n_in: int, group_size: int) -> int:
    size = n_in if group_size < 1 else group_size
    if n_in % size:
        raise module.error("qweight", f"has {n_in} inputs, which are no whole groups of {size}")
    return n_in // size
