"""Which type each tensor of the output gets, and the bytes of its rows: all that converters know of quantization.

Types are chosen by the recipes of `quant/`, whose kernels encode the quantized ones. Plain floats are written by NumPy,
so that converting to them compiles nothing.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgellama import formats, fp8
from quant import encoders
from quant.recipes import UNCHANGED_16_BITS, UNQUANTIZED, recipe_named
from quant.tensor_roles import model_facts, role_of
from quant.type_choice import choose_types, fallback, without_importance

from .errors import ConvertError
from .lazy_tensor import LazyTensor
from .outputs import OutputTensor
from .planned_file import PlannedFile

_LARGEST_HALF = 65504.0


def choose(planned: PlannedFile, recipe_name: str | None) -> tuple[dict[str, str], int]:
    """(type of every tensor by name, value of general.file_type) by a recipe's name.

    None is F16, but for tensors that prefer another type. None and "fp8" leave the tensors of a checkpoint in FP8 what
    they are, those at 16 bits too.
    Raises EdgellamaError for a name that is none, and for types that cannot be written, or not without importance.
    """
    own = {tensor.name: tensor.type_name for tensor in planned.tensors.values() if tensor.type_name in fp8.TYPES}
    is_kept = bool(own) and recipe_name in (None, "fp8")
    recipe = UNCHANGED_16_BITS if is_kept else recipe_named(recipe_name or "f16")
    types = choose_types(planned.tensors.values(), model_facts(planned, has_importance=False), recipe)
    if is_kept:  # rows of an FP8 matrix cannot be looked up; float32 says the same numbers
        types |= {name: "f32" if role_of(name) == "token_embd" else type_name for name, type_name in own.items()}
    preferred = {} if recipe_name else _preferred(planned)
    if preferred:
        ((most, _),) = Counter(preferred.values()).most_common(1)
        types, recipe = types | preferred, recipe_named(most)
    _check(types, recipe_name)
    return types, recipe.file_type


def _preferred(planned: PlannedFile) -> dict[str, str]:
    tensors = planned.tensors.values()
    return {t.name: fallback(t.preferred_type, t.shape[-1]) for t in tensors if t.preferred_type}


def _check(types: dict[str, str], recipe_name: str | None) -> None:
    wanting = [types[name] for name in without_importance(types)]
    wanting += [type_name for type_name in types.values() if type_name not in encoders.WRITABLE]
    if wanting:
        raise ConvertError(
            f"{recipe_name} needs {wanting[0]}, which cannot be made of a checkpoint alone; convert to f16 and use "
            "`edgellama quantize` with --imatrix"
        )


def prepare(outputs: Iterable[OutputTensor]) -> None:
    """Compile what encoding these tensors needs, if it is not compiled yet.

    FP8 codes are carried as a rule, so those that must be rounded see to it with their first row.
    """
    uncompiled = (*UNQUANTIZED, "i8")
    if any(output.type_name not in (*uncompiled, *output.tensor.stored.blocks) for output in outputs):
        encoders.kernels()


def encoded(tensor: LazyTensor, start: int, stop: int, type_name: str) -> NDArray:
    """The bytes of rows [start, stop), contiguous.

    A tensor of the same type passes through bit for bit, and integers stay the same where blocks can hold them.

    Raises ConvertError, a predicate for the tensor's name.
    """
    if tensor.stored.name == type_name:
        raw = tensor.raw(start, stop)
        _refuse_values(tensor.stored.widen(raw), type_name)
        return np.ascontiguousarray(raw)
    if type_name in tensor.stored.blocks:
        return _as_blocks(tensor, start, stop, type_name)
    rows = tensor.rows(start, stop).reshape(-1, tensor.shape[-1])
    _refuse_values(rows, type_name)
    try:
        if type_name in UNQUANTIZED:
            return formats.by_name(type_name).encode(rows)
        return encoders.encode_rows(type_name, rows)
    except ValueError as error:
        raise ConvertError(f"cannot become {type_name}: {error}") from error


def _as_blocks(tensor: LazyTensor, start: int, stop: int, type_name: str) -> NDArray[np.uint8]:
    raw = tensor.raw(start, stop)
    try:
        return tensor.stored.blocks[type_name](raw)
    except ValueError as error:
        _refuse_values(tensor.stored.widen(raw), type_name)
        raise ConvertError(f"cannot become {type_name}: {error}") from error


def _refuse_values(rows: NDArray[np.float32], type_name: str) -> None:
    low, high = rows.min(), rows.max()  # both are NaN if any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ConvertError("holds NaN or infinity, so the checkpoint is damaged")
    if type_name == "f16" and max(-low, high) > _LARGEST_HALF:
        raise ConvertError(f"holds {max(-low, high):g}, which is too large for f16; use --type bf16 or f32")
