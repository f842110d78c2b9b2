"""The functions of the driver's library that are used: what each is called for, and the types of its arguments.

Names end in _v2 where the header maps the plain name to that symbol. Handles are pointers; an address of the GPU is an
unsigned 64-bit integer; every function returns an int, the result.
"""

import ctypes

_INT, _UNSIGNED, _SIZE, _POINTER, _TEXT = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_char_p,
)
_ADDRESS = ctypes.c_uint64
_SHAPE = (_UNSIGNED,) * 7  # blocks x, y, z; threads x, y, z; dynamic shared memory

PROTOTYPES: dict[str, tuple[str, tuple]] = {
    "cuInit": ("starting the NVIDIA driver", (_UNSIGNED,)),
    "cuDriverGetVersion": ("asking for the driver's version", (_POINTER,)),
    "cuDeviceGetCount": ("counting GPUs", (_POINTER,)),
    "cuDeviceGet": ("finding the GPU", (_POINTER, _INT)),
    "cuDeviceGetName": ("asking for the GPU's name", (_POINTER, _INT, _INT)),
    "cuDeviceGetUuid_v2": ("asking for the GPU's identity", (_POINTER, _INT)),
    "cuDeviceGetAttribute": ("asking for a property of the GPU", (_POINTER, _INT, _INT)),
    "cuDeviceTotalMem_v2": ("asking for the GPU's memory", (_POINTER, _INT)),
    "cuDevicePrimaryCtxRetain": ("opening the GPU", (_POINTER, _INT)),
    "cuDevicePrimaryCtxRelease_v2": ("closing the GPU", (_INT,)),
    "cuCtxSetCurrent": ("choosing the GPU for this thread", (_POINTER,)),
    "cuCtxSynchronize": ("waiting for the GPU", ()),
    "cuMemGetInfo_v2": ("asking for the GPU's free memory", (_POINTER, _POINTER)),
    "cuMemAlloc_v2": ("allocating memory on the GPU", (_POINTER, _SIZE)),
    "cuMemFree_v2": ("freeing memory of the GPU", (_ADDRESS,)),
    "cuMemHostAlloc": ("allocating page-locked memory", (_POINTER, _SIZE, _UNSIGNED)),
    "cuMemFreeHost": ("freeing page-locked memory", (_POINTER,)),
    "cuMemHostGetDevicePointer_v2": ("mapping memory for the GPU", (_POINTER, _POINTER, _UNSIGNED)),
    "cuMemcpyHtoDAsync_v2": ("copying to the GPU", (_ADDRESS, _POINTER, _SIZE, _POINTER)),
    "cuMemcpyDtoHAsync_v2": ("copying from the GPU", (_POINTER, _ADDRESS, _SIZE, _POINTER)),
    "cuMemcpyDtoDAsync_v2": ("copying on the GPU", (_ADDRESS, _ADDRESS, _SIZE, _POINTER)),
    "cuMemsetD8Async": ("filling memory of the GPU", (_ADDRESS, ctypes.c_ubyte, _SIZE, _POINTER)),
    "cuStreamCreate": ("making a stream", (_POINTER, _UNSIGNED)),
    "cuStreamDestroy_v2": ("freeing a stream", (_POINTER,)),
    "cuStreamSynchronize": ("waiting for the GPU", (_POINTER,)),
    "cuStreamWaitEvent": ("making a stream wait for an event", (_POINTER, _POINTER, _UNSIGNED)),
    "cuEventCreate": ("making an event", (_POINTER, _UNSIGNED)),
    "cuEventDestroy_v2": ("freeing an event", (_POINTER,)),
    "cuEventRecord": ("recording an event", (_POINTER, _POINTER)),
    "cuEventQuery": ("asking for an event", (_POINTER,)),
    "cuEventSynchronize": ("waiting for the GPU", (_POINTER,)),
    "cuEventElapsedTime": ("taking the time between events", (_POINTER, _POINTER, _POINTER)),
    "cuStreamBeginCapture_v2": ("recording a graph", (_POINTER, _INT)),
    "cuStreamEndCapture": ("recording a graph", (_POINTER, _POINTER)),
    "cuGraphGetNodes": ("counting a graph's nodes", (_POINTER, _POINTER, _POINTER)),
    "cuGraphInstantiateWithFlags": ("preparing a graph", (_POINTER, _POINTER, ctypes.c_ulonglong)),
    "cuGraphDestroy": ("freeing a graph", (_POINTER,)),
    "cuGraphExecDestroy": ("freeing a graph", (_POINTER,)),
    "cuGraphLaunch": ("launching a graph", (_POINTER, _POINTER)),
    "cuModuleLoadDataEx": ("loading kernels", (_POINTER, _POINTER, _UNSIGNED, _POINTER, _POINTER)),
    "cuModuleUnload": ("freeing kernels", (_POINTER,)),
    "cuModuleGetFunction": ("finding a kernel", (_POINTER, _POINTER, _TEXT)),
    "cuModuleGetGlobal_v2": ("finding a variable of the kernels", (_POINTER, _POINTER, _POINTER, _TEXT)),
    "cuFuncGetAttribute": ("asking for a property of a kernel", (_POINTER, _INT, _POINTER)),
    "cuFuncSetAttribute": ("giving a kernel shared memory", (_POINTER, _INT, _INT)),
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": (
        "asking how many blocks of a kernel fit",
        (_POINTER, _POINTER, _INT, _SIZE),
    ),
    "cuLaunchKernel": ("launching a kernel", (_POINTER, *_SHAPE, _POINTER, _POINTER, _POINTER)),
    "cuLaunchCooperativeKernel": ("launching a kernel", (_POINTER, *_SHAPE, _POINTER, _POINTER)),
    "cuLaunchKernelEx": ("launching a kernel", (_POINTER, _POINTER, _POINTER, _POINTER)),
}
OPTIONAL = frozenset({"cuLaunchKernelEx"})  # since CUDA 11.8
