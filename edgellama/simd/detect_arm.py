"""Features of an AArch64 CPU as its operating system reports them.

LLVM knows them from the CPU's name alone, so on a CPU that it does not know, or where /proc/cpuinfo is hidden, it would
miss dot products. Whatever cannot be asked counts as missing: then the base, Armv8.0 with NEON, is left.
"""

import sys

# Bits of the kernel's AT_HWCAP and AT_HWCAP2 (Linux, arch/arm64/include/uapi/asm/hwcap.h).
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_HWCAP_ASIMDDP, _HWCAP2_I8MM = 1 << 20, 1 << 13
_SYSCTL = {"dotprod": "hw.optional.arm.FEAT_DotProd", "i8mm": "hw.optional.arm.FEAT_I8MM"}
_WINDOWS = {"dotprod": 43, "i8mm": 66}  # PF_ARM_V82_DP_…, PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE in winnt.h


def features() -> frozenset[str]:
    """Those of LLVM's feature names that matter here, of this CPU."""
    ask = {"darwin": _macos, "win32": _windows}.get(sys.platform, _auxiliary_vector)
    try:
        return ask()
    except (OSError, AttributeError):  # a system without the function that is asked
        return frozenset()


def of_hwcap(first: int, second: int) -> frozenset[str]:
    """Features of the words AT_HWCAP and AT_HWCAP2."""
    found = {"dotprod": first & _HWCAP_ASIMDDP, "i8mm": second & _HWCAP2_I8MM}
    return frozenset(name for name, bit in found.items() if bit)


def _auxiliary_vector() -> frozenset[str]:
    """Linux and Android."""
    import ctypes

    ask = ctypes.CDLL(None).getauxval
    ask.restype, ask.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return of_hwcap(ask(_AT_HWCAP), ask(_AT_HWCAP2))


def _macos() -> frozenset[str]:
    from .. import system

    return frozenset(name for name, key in _SYSCTL.items() if system.sysctl_integer(key) == 1)


def _windows() -> frozenset[str]:
    import ctypes

    ask = ctypes.WinDLL("kernel32").IsProcessorFeaturePresent
    return frozenset(name for name, number in _WINDOWS.items() if ask(number))
