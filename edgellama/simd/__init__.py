"""SIMD vectors as Numba values: one source for every instruction set.

Every vector is 64 bytes wide whatever the machine (`f32x16`, `i32x16`, `u8x64`): LLVM splits it into the
registers there are (one zmm, two ymm, four NEON). Only `dot4` and the register tile differ by target; they ask
`simd.target.current()`, which the compiler sets before any kernel module is imported.
"""
