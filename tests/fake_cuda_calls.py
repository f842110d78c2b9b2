"""How the functions of the fake libcuda are declared and how they answer."""

import ctypes
from collections.abc import Callable
from typing import Any

# The types in cuda.h by letter: handles and pointers, int, unsigned int, size_t, CUdeviceptr, unsigned char,
# unsigned long long, const char *.
TYPES = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "u": ctypes.c_uint,
    "z": ctypes.c_size_t,
    "a": ctypes.c_uint64,
    "b": ctypes.c_ubyte,
    "l": ctypes.c_ulonglong,
    "s": ctypes.c_char_p,
}


class Result(Exception):  # noqa: N818
    """What the driver answers, when that is not success."""

    def __init__(self, code: int, text: str = ""):
        super().__init__(text)
        self.code = code


class Misuse(Result):
    """The same for a mistake of the caller, of which the real driver may say nothing."""


def driver(name: str, types: str = "", needs_context: bool = True) -> Callable[[Callable], Callable]:
    """Make a method the driver's function of this name. Arguments come as ints, None for NULL, bytes for text."""

    def mark(method: Any) -> Any:
        method.driver_name, method.types, method.needs_context = name, types, needs_context
        return method

    return mark


def put(pointer: int, kind: Any, value: Any) -> None:
    """Write a result to where the caller wants it."""
    kind.from_address(pointer).value = value
