"""The kernels of a GPU by name; each part of the PTX is loaded when its first kernel is asked for."""

from ..errors import EdgellamaError
from .architecture import architecture_for
from .build import COMMON, part_of
from .device import Device
from .images import load_ptx
from .module import Function, Module


class KernelSet:
    """Raises EdgellamaError for a GPU that is too old, and CudaError if the driver cannot compile a part."""

    def __init__(self, device: Device):
        architecture = architecture_for(device.compute_capability)
        if architecture is None:
            found = ".".join(map(str, device.compute_capability))
            raise EdgellamaError(f"{device.name} has compute capability {found}; the least that can be used is 7.5")
        self._device, self._ptx = device, load_ptx(architecture)
        self._kinds = sorted(set(self._ptx) - {COMMON}, key=len, reverse=True)
        self._modules: dict[str, Module] = {}
        self._functions: dict[str, Function] = {}

    def function(self, name: str) -> Function:
        """The kernel of this name."""
        if name not in self._functions:
            part = part_of(name, self._kinds)
            if part not in self._modules:
                self._modules[part] = self._device.module(self._ptx[part])
            self._functions[name] = self._modules[part].function(name)
        return self._functions[name]
