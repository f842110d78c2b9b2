"""What a Device makes and frees, and which device is current in a thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

from ..errors import EdgellamaError

if TYPE_CHECKING:
    from .device import Device


class Context:
    """A Device as the driver knows it, while it is open. Each opening has its own; the handle may be the same again."""

    def __init__(self, handle: int):
        self.handle = handle


class _Current(threading.local):
    """Where this thread's calls go. Not the Device: a thread must not keep it alive."""

    context: Context | None = None


CURRENT = _Current()


class Resource:
    """Something on a device that is freed once: by `free()`, or with the device. Freeing it again does nothing."""

    KIND: ClassVar[str]
    RELEASE: ClassVar[str]  # the driver's function that frees it

    def __init__(self, device: Device, handle: int):
        self.device = device
        self._context = device.context
        self._handle: int | None = handle
        device.hold(self)

    @property
    def handle(self) -> int:
        """What the driver calls it. EdgellamaError once it is freed: the driver would take another for it."""
        if self._handle is None:
            raise EdgellamaError(f"{self.KIND} of {self.device.name} was used after it had been freed")
        return self._handle

    def free(self) -> None:
        """Give it back. Work on the GPU that uses it must have ended."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self.device.forget(self)
            self.device.release(self.RELEASE, handle)
