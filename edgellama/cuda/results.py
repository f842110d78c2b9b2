"""What the driver's result codes (CUresult of cuda.h) mean for a user: the name, the cause and the way out.

A code of a driver that is newer than this table is reported by its number.
"""

_OUR_MISTAKE = "this is a mistake in edgellama, please report it"
_RESTART = "this process can no longer use the GPU: start the program again"
_UPDATE = "update the NVIDIA driver"
_OTHER_USE = "edgellama does not ask for this, so other code in this process has a hand in it"
_REINSTALL = "install the NVIDIA driver again and restart the machine"
_MPS = "look at the log of NVIDIA's Multi-Process Service, or stop the service"
_CAPTURE = f"a graph was being recorded; {_OUR_MISTAKE}"

RESULTS: dict[int, tuple[str, str]] = {
    1: ("INVALID_VALUE", f"an argument is out of range; {_OUR_MISTAKE}"),
    2: ("OUT_OF_MEMORY", "the GPU's memory is full: close what else uses it, or take a smaller model or context"),
    3: (
        "NOT_INITIALIZED",
        "the driver was not started in this process; one that was forked from a process that uses the GPU cannot use "
        "it: start it with the spawn method",
    ),
    4: ("DEINITIALIZED", "the driver has shut down, because the program is ending: close the GPU before"),
    5: ("PROFILER_DISABLED", "another profiler is at work: run without one of them"),
    6: ("PROFILER_NOT_INITIALIZED", _OTHER_USE),
    7: ("PROFILER_ALREADY_STARTED", _OTHER_USE),
    8: ("PROFILER_ALREADY_STOPPED", _OTHER_USE),
    34: (
        "STUB_LIBRARY",
        "the libcuda that was found is the CUDA toolkit's stub for linking: take its folder out of LD_LIBRARY_PATH",
    ),
    36: ("CALL_REQUIRES_NEWER_DRIVER", f"the driver is too old: {_UPDATE}"),
    46: ("DEVICE_UNAVAILABLE", "another process has the GPU for itself, or its compute mode forbids it: nvidia-smi -q"),
    100: (
        "NO_DEVICE",
        "there is a driver but no GPU: look at nvidia-smi and at CUDA_VISIBLE_DEVICES, and start a container with "
        "access to the GPU",
    ),
    101: ("INVALID_DEVICE", "there is no GPU of that number: nvidia-smi lists them"),
    102: ("DEVICE_NOT_LICENSED", "this virtual GPU has no license: ask who runs the machine"),
    200: ("INVALID_IMAGE", "the kernels are damaged: run edgellama doctor --clean"),
    201: ("INVALID_CONTEXT", f"no GPU is current in this thread; {_OUR_MISTAKE}"),
    202: ("CONTEXT_ALREADY_CURRENT", _OTHER_USE),
    205: ("MAP_FAILED", "memory could not be mapped: close what else uses the GPU"),
    206: ("UNMAP_FAILED", "memory could not be unmapped: start the program again"),
    207: ("ARRAY_IS_MAPPED", _OTHER_USE),
    208: ("ALREADY_MAPPED", _OTHER_USE),
    209: ("NO_BINARY_FOR_GPU", "the kernels were made for another kind of GPU: run edgellama doctor --clean"),
    210: ("ALREADY_ACQUIRED", _OTHER_USE),
    211: ("NOT_MAPPED", _OTHER_USE),
    212: ("NOT_MAPPED_AS_ARRAY", _OTHER_USE),
    213: ("NOT_MAPPED_AS_POINTER", _OTHER_USE),
    214: ("ECC_UNCORRECTABLE", f"the GPU's memory is faulty, nvidia-smi -q -d ECC tells more; {_RESTART}"),
    215: ("UNSUPPORTED_LIMIT", "the GPU does not have this limit: please report it"),
    216: ("CONTEXT_ALREADY_IN_USE", _OTHER_USE),
    217: ("PEER_ACCESS_UNSUPPORTED", "these GPUs cannot reach each other's memory: use one"),
    218: ("INVALID_PTX", "the driver's compiler refuses the kernels: please report it with what the compiler says"),
    219: ("INVALID_GRAPHICS_CONTEXT", _OTHER_USE),
    220: ("NVLINK_UNCORRECTABLE", f"the link between GPUs is faulty; {_RESTART}"),
    221: (
        "JIT_COMPILER_NOT_FOUND",
        "the driver's compiler (libnvidia-ptxjitcompiler) is not there: install the whole driver, and give a container "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    222: ("UNSUPPORTED_PTX_VERSION", f"the driver is older than the kernels: {_UPDATE}"),
    223: ("JIT_COMPILATION_DISABLED", "CUDA_DISABLE_PTX_JIT forbids compiling kernels: unset it"),
    224: ("UNSUPPORTED_EXEC_AFFINITY", _OTHER_USE),
    225: ("UNSUPPORTED_DEVSIDE_SYNC", f"a kernel waits for another; {_OUR_MISTAKE}"),
    226: ("CONTAINED", f"the GPU stopped a faulty access; {_RESTART}"),
    300: ("INVALID_SOURCE", "the driver's compiler refuses the kernels: please report it with what the compiler says"),
    301: ("FILE_NOT_FOUND", f"the driver misses a file of its own: {_REINSTALL}"),
    302: ("SHARED_OBJECT_SYMBOL_NOT_FOUND", f"parts of the driver do not fit together: {_REINSTALL}"),
    303: ("SHARED_OBJECT_INIT_FAILED", f"a part of the driver does not start: {_REINSTALL}"),
    304: (
        "OPERATING_SYSTEM",
        "the operating system refused something to the driver: look at the limits on open files and locked memory, at "
        "the permissions of /dev/nvidia*, and at the system's log",
    ),
    400: ("INVALID_HANDLE", f"something was used after it had been freed; {_OUR_MISTAKE}"),
    401: ("ILLEGAL_STATE", f"something is not in a state that allows this; {_OUR_MISTAKE}"),
    402: ("LOSSY_QUERY", _OTHER_USE),
    500: ("NOT_FOUND", "the kernels lack this name: run edgellama doctor --clean"),
    600: ("NOT_READY", "the GPU is still at work: wait for it first"),
    700: ("ILLEGAL_ADDRESS", f"a kernel reached outside its memory; {_RESTART}, and please report it"),
    701: ("LAUNCH_OUT_OF_RESOURCES", f"a kernel wants more registers than there are; {_OUR_MISTAKE}"),
    702: ("LAUNCH_TIMEOUT", f"a kernel took longer than a GPU with a display allows; {_RESTART}"),
    703: ("LAUNCH_INCOMPATIBLE_TEXTURING", _OTHER_USE),
    704: ("PEER_ACCESS_ALREADY_ENABLED", _OTHER_USE),
    705: ("PEER_ACCESS_NOT_ENABLED", _OTHER_USE),
    708: ("PRIMARY_CONTEXT_ACTIVE", "other code in this process uses the GPU already: open it before that code"),
    709: ("CONTEXT_IS_DESTROYED", f"other code in this process has reset the GPU; {_RESTART}"),
    710: ("ASSERT", f"a kernel found something wrong; {_RESTART}, and please report it"),
    711: ("TOO_MANY_PEERS", _OTHER_USE),
    712: ("HOST_MEMORY_ALREADY_REGISTERED", f"this memory is page-locked already; {_OUR_MISTAKE}"),
    713: ("HOST_MEMORY_NOT_REGISTERED", f"this memory is not page-locked; {_OUR_MISTAKE}"),
    714: ("HARDWARE_STACK_ERROR", f"a kernel's stack overflowed; {_RESTART}, and please report it"),
    715: ("ILLEGAL_INSTRUCTION", f"a kernel is no valid program for this GPU; {_RESTART}, and please report it"),
    716: ("MISALIGNED_ADDRESS", f"a kernel used an unaligned address; {_RESTART}, and please report it"),
    717: ("INVALID_ADDRESS_SPACE", f"a kernel mixed up kinds of memory; {_RESTART}, and please report it"),
    718: ("INVALID_PC", f"a kernel jumped outside its code; {_RESTART}, and please report it"),
    719: ("LAUNCH_FAILED", f"a kernel crashed; {_RESTART}, and please report it"),
    720: ("COOPERATIVE_LAUNCH_TOO_LARGE", f"more blocks than can run at once; {_OUR_MISTAKE}"),
    721: ("TENSOR_MEMORY_LEAK", f"a kernel left tensor memory behind; {_RESTART}, and please report it"),
    800: ("NOT_PERMITTED", "the system does not allow this to this user: ask who runs the machine"),
    801: ("NOT_SUPPORTED", f"this GPU or system cannot do this: {_UPDATE}, or run on the CPU"),
    802: ("SYSTEM_NOT_READY", "a service of the machine is not running, on servers nvidia-fabricmanager: start it"),
    803: ("SYSTEM_DRIVER_MISMATCH", "libcuda and the kernel's driver have different versions: restart the machine"),
    804: (
        "COMPAT_NOT_SUPPORTED_ON_DEVICE",
        f"the CUDA compatibility package does not work with this GPU: remove it from LD_LIBRARY_PATH, or {_UPDATE}",
    ),
    805: ("MPS_CONNECTION_FAILED", _MPS),
    806: ("MPS_RPC_FAILURE", _MPS),
    807: ("MPS_SERVER_NOT_READY", "NVIDIA's Multi-Process Service is recovering: try again in a moment"),
    808: ("MPS_MAX_CLIENTS_REACHED", "too many processes use the GPU: end some of them"),
    809: ("MPS_MAX_CONNECTIONS_REACHED", "too many processes use the GPU: end some of them"),
    810: ("MPS_CLIENT_TERMINATED", f"NVIDIA's Multi-Process Service ended this process's use; {_RESTART}"),
    811: ("CDP_NOT_SUPPORTED", f"a kernel launches kernels; {_OUR_MISTAKE}"),
    812: ("CDP_VERSION_MISMATCH", f"a kernel launches kernels; {_OUR_MISTAKE}"),
    900: ("STREAM_CAPTURE_UNSUPPORTED", _CAPTURE),
    901: ("STREAM_CAPTURE_INVALIDATED", _CAPTURE),
    902: ("STREAM_CAPTURE_MERGE", _CAPTURE),
    903: ("STREAM_CAPTURE_UNMATCHED", _CAPTURE),
    904: ("STREAM_CAPTURE_UNJOINED", _CAPTURE),
    905: ("STREAM_CAPTURE_ISOLATION", _CAPTURE),
    906: ("STREAM_CAPTURE_IMPLICIT", "other code in this process used the GPU while a graph was being recorded"),
    907: ("CAPTURED_EVENT", _CAPTURE),
    908: ("STREAM_CAPTURE_WRONG_THREAD", _CAPTURE),
    909: ("TIMEOUT", "the GPU did not answer in time: look at nvidia-smi"),
    910: ("GRAPH_EXEC_UPDATE_FAILURE", f"a graph cannot be changed in this way; {_OUR_MISTAKE}"),
    911: ("EXTERNAL_DEVICE", f"a device beside the GPU failed; {_RESTART}"),
    912: ("INVALID_CLUSTER_SIZE", f"a kernel wants another cluster of blocks; {_OUR_MISTAKE}"),
    913: ("FUNCTION_NOT_LOADED", f"a kernel is not loaded; {_OUR_MISTAKE}"),
    914: ("INVALID_RESOURCE_TYPE", _OTHER_USE),
    915: ("INVALID_RESOURCE_CONFIGURATION", _OTHER_USE),
    916: ("KEY_ROTATION", "the keys of confidential computing could not be changed: restart the machine"),
    999: ("UNKNOWN", f"the driver gives no cause, the system's log may (dmesg, Xid); {_RESTART}"),
}
UNKNOWN_RESULT = "the driver is newer than edgellama and has errors of its own: look up this number in its cuda.h"

OUT_OF_MEMORY, NO_DEVICE, NOT_READY, UNSUPPORTED_PTX_VERSION = 2, 100, 600, 222
# After these every call of the process fails: the work on the GPU, and what is in its memory, is gone.
LOST = frozenset({214, 220, 226, 700, 702, 709, 710, *range(714, 720), 721, 806, 810, 911, 999})
# Nothing is left to be freed: the above, and a driver that ended with the program or stayed behind in the parent.
GONE = LOST | {3, 4, 201}


def name_of(code: int) -> str:
    """CUDA's own name for a code, which is what people search for."""
    return f"CUDA_ERROR_{RESULTS[code][0]}" if code in RESULTS else f"CUDA error {code}"


def cause_of(code: int) -> str:
    return RESULTS[code][1] if code in RESULTS else UNKNOWN_RESULT
