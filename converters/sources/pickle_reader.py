"""The pickles inside PyTorch files, read without running anything.

A pickle is a program for a small stack machine, and its one dangerous power is to call whatever function it names. This
machine has the opcodes that plain data needs, and the names below: each stands for a few lines here that note what a
tensor looks like. Any other name or opcode is an error. Opcodes: the comments of the standard library's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellama.gguf.cursor import quoted

from .. import stored_types as types
from ..errors import ConvertError
from ..stored_types import StoredType


@dataclass(frozen=True)
class Storage:
    """A run of bytes that tensors share: the name of its file in the archive, and its type (None: bytes)."""

    key: str
    stored: StoredType | None


@dataclass(frozen=True)
class StridedTensor:
    """A view of a storage; offset and strides count values."""

    storage: Storage
    stored: StoredType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """What a pickle may name: inert, and called only by the machine."""

    name: str
    call: Callable[..., Any] | None = None
    stored: StoredType | None = None


def _rebuild(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> StridedTensor:
    if storage.stored is None:
        raise ValueError("a storage without a type")
    return StridedTensor(storage, storage.stored, offset, shape, strides)


def _rebuild_untyped(storage: Storage, offset: int, shape: tuple, strides: tuple, *rest: Any) -> StridedTensor:
    """As torch saves types that have no storage class of their own: gradient flag, hooks, type, metadata follow."""
    stored = next(item.stored for item in rest if isinstance(item, _Name))
    if stored is None:
        raise ValueError("a type that holds no numbers")
    return StridedTensor(storage, stored, offset, shape, strides)


def _rebuild_subclass(function: _Name, _type: Any, arguments: tuple, _state: Any) -> Any:
    return _call(function, arguments)


def _ordered_dict(pairs: Any = ()) -> dict:
    return _table(pairs)


def _table(pairs: Any) -> dict:
    """Keys are texts and numbers: hashing, or printing, a tuple of tuples of tuples can take for ever."""
    table = {}
    for key, value in pairs:
        if not isinstance(key, str | int):
            raise ValueError("a table whose keys are neither texts nor numbers")
        table[key] = value
    return table


def _call(function: Any, arguments: tuple) -> Any:
    if not isinstance(function, _Name) or function.call is None or not isinstance(arguments, tuple):
        raise ValueError("a call of something that cannot be called")
    return function.call(*arguments)


_STORAGES = {
    **{"Float": types.F32, "Half": types.F16, "BFloat16": types.BF16, "Double": types.F64, "Bool": types.BOOL},
    **{"Char": types.I8, "Short": types.I16, "Int": types.I32, "Long": types.I64, "Byte": types.U8},
}
_DTYPES = {
    **{"float32": types.F32, "float16": types.F16, "bfloat16": types.BF16, "float64": types.F64, "bool": types.BOOL},
    **{"float8_e4m3fn": types.F8_E4M3, "float8_e5m2": types.F8_E5M2, "uint8": types.U8, "int8": types.I8},
    **{"int16": types.I16, "int32": types.I32, "int64": types.I64},
    **{"uint16": types.U16, "uint32": types.U32, "uint64": types.U64},
}
_NAMES = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_untyped,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    "torch.Size": tuple,
    "collections.OrderedDict": _ordered_dict,
}
_ALLOWED = {
    **{name: _Name(name, call=call) for name, call in _NAMES.items()},
    **{f"torch.{name}Storage": _Name(name, stored=stored) for name, stored in _STORAGES.items()},
    **{f"torch.{name}": _Name(name, stored=stored) for name, stored in _DTYPES.items()},
    **{name: _Name(name) for name in ("torch.storage.UntypedStorage", "torch.nn.parameter.Parameter", "torch.Tensor")},
}
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration, RecursionError)


def read_pickle(data: bytes, path: Path) -> Any:
    """The value of a pickle: dicts, lists, numbers, texts and StridedTensors. `path` is for messages."""
    return _Machine(path).run(data)


class _Machine:
    def __init__(self, path: Path):
        self.path = path
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # what lies under each open mark
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        position = 0
        try:
            for opcode, argument, position in pickletools.genops(data):  # noqa: B007 (used in the message)
                if opcode.name == "STOP":
                    return self.stack.pop()
                handler = _HANDLERS.get(opcode.name)
                if handler is None:
                    raise ConvertError(
                        f"{self.path}: its pickle uses the instruction {opcode.name}, which no file of tensors needs; "
                        "nothing of it was run"
                    )
                handler(self, argument)
        except _DAMAGE as error:
            raise ConvertError(f"{self.path}: its pickle is damaged near byte {position}: {error}") from error

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, n: int) -> list[Any]:
        """The last n values."""
        if n > len(self.stack):
            raise ValueError("its stack is too short")
        values = self.stack[-n:]
        del self.stack[-n:]
        return values

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a {kind.__name__} was expected")
        return self.stack[-1]

    def name(self, name: str) -> None:
        if name not in _ALLOWED:
            raise ConvertError(
                f"{self.path}: its pickle asks for {quoted(name)}, which is no part of a tensor; nothing of it was run"
            )
        self.push(_ALLOWED[name])

    def name_from_stack(self) -> None:
        module, name = self.pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        self.name(f"{module}.{name}")

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        self.push(_call(function, arguments))

    def build(self) -> None:
        """State of an object; only that of an OrderedDict occurs (version numbers of modules) and means nothing."""
        self.pop(1)
        self.top(dict)

    def storage(self) -> None:
        """A persistent id: ('storage', type, key, device, number of values)."""
        (identity,) = self.pop(1)
        kind, storage_type, key = identity[:3]
        if kind != "storage" or not isinstance(storage_type, _Name) or not isinstance(key, str):
            raise ValueError("a persistent id that names no storage")
        self.push(Storage(key, storage_type.stored))

    def set_items(self, items: list[Any]) -> None:
        self.top(dict).update(_table(zip(items[::2], items[1::2], strict=True)))


def _constant(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _tuple_of(n: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(tuple(machine.pop(n)))


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "INT", "LONG", "FLOAT"), _constant),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING"), _constant),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, place: _remember(machine, place)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.push(machine.memo[place])),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.mark(),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": lambda machine, _: _append(machine, machine.pop(1)),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": lambda machine, name: machine.name(name.replace(" ", ".")),
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.storage(),
}


def _remember(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


def _append(machine: _Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)
