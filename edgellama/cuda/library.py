"""Finds and loads the driver's library, libcuda, and turns what it returns into errors of one sentence each.

Nothing but ctypes is needed. `EDGELLAMA_LIBCUDA` names another library, for tests.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from ..errors import EdgellamaError
from .prototypes import OPTIONAL, PROTOTYPES
from .results import GONE, LOST, OUT_OF_MEMORY, cause_of, name_of

# Linux, Windows, and Linux inside Windows, where the loader may not know the folder.
NAMES = ("libcuda.so.1", "nvcuda.dll", "/usr/lib/wsl/lib/libcuda.so.1")
OLDEST_VERSION = (11, 4)  # the first driver with every function of PROTOTYPES but the optional ones


class NoDriverError(EdgellamaError):
    """This machine has no NVIDIA driver at all."""


class CudaError(EdgellamaError):
    """A call of the driver that failed. The sentence says what was tried, CUDA's name for the error and the way out."""

    def __init__(self, sentence: str, code: int):
        super().__init__(sentence)
        self.code = code


class OutOfDeviceMemory(CudaError):  # noqa: N818 - the name says more without "Error"
    """The GPU's memory, or what memory can be page-locked, does not suffice."""


class DeviceLost(CudaError):  # noqa: N818
    """The GPU stopped working for this process, which has to end: a faulty kernel, faulty memory, a device removed."""


def cuda_error(code: int, doing: str, detail: str = "") -> CudaError:
    """The error for a result: `doing` begins the sentence, and `detail` ends it."""
    kind = OutOfDeviceMemory if code == OUT_OF_MEMORY else DeviceLost if code in LOST else CudaError
    ending = f"; {detail}" if detail else ""
    return kind(f"{doing} failed with {name_of(code)}: {cause_of(code)}{ending}", code)


class Library:
    """The functions of libcuda, each an attribute of its own name that returns the result as an int.

    `version` is the newest CUDA that the driver supports, such as (12, 4).
    """

    version: tuple[int, int]

    def __init__(self, shared: Any):
        missing = [name for name in PROTOTYPES if not self._bind(shared, name) and name not in OPTIONAL]
        self.version = self._version() if "cuDriverGetVersion" not in missing else (0, 0)
        if missing or self.version < OLDEST_VERSION:
            raise EdgellamaError(_too_old(self.version, missing))

    def _bind(self, shared: Any, name: str) -> bool:
        function = getattr(shared, name, None)
        if function is not None:
            function.argtypes, function.restype = PROTOTYPES[name][1], ctypes.c_int
        setattr(self, name, function)
        return function is not None

    def _version(self) -> tuple[int, int]:
        number = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(number))
        return number.value // 1000, number.value % 1000 // 10

    def call(self, name: str, *arguments: Any, doing: str = "") -> None:
        """Call a function that must succeed. Raises CudaError."""
        code = getattr(self, name)(*arguments)
        if code:
            raise cuda_error(code, doing or PROTOTYPES[name][0])

    def release(self, name: str, *arguments: Any) -> None:
        """The same for what frees something: it is no error if a lost device or the end of the program was first."""
        code = getattr(self, name)(*arguments)
        if code and code not in GONE:
            raise cuda_error(code, PROTOTYPES[name][0])


def _too_old(version: tuple[int, int], missing: list[str]) -> str:
    if version == (0, 0):
        return "the library that was loaded as libcuda is none: install the NVIDIA driver, or run on the CPU"
    found = f"the NVIDIA driver supports CUDA {version[0]}.{version[1]}"
    lacks = f" and lacks {missing[0]}" if missing else ""
    oldest = f"CUDA {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} (driver 470)"
    return f"{found}{lacks}, and {oldest} is needed: update the driver, or run on the CPU"


def open_library() -> Library:
    """The driver's library without starting the driver, which takes no time. NoDriverError; EdgellamaError: too old."""
    return _opened(os.environ.get("EDGELLAMA_LIBCUDA", ""))


def load_library() -> Library:
    """The driver's library, started. NoDriverError; EdgellamaError for one that is too old; CudaError without a GPU."""
    return _started(open_library())


@functools.cache
def _opened(override: str) -> Library:
    return Library(_shared_object(override))


@functools.cache
def _started(library: Library) -> Library:
    library.call("cuInit", 0)
    return library


def _shared_object(override: str) -> Any:
    for name in (override,) if override else NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            problem = error
    if override:
        raise EdgellamaError(f"EDGELLAMA_LIBCUDA names {override}, which cannot be loaded: {problem}")
    raise NoDriverError("no NVIDIA driver was found (libcuda.so.1 or nvcuda.dll): install it, or run on the CPU")
