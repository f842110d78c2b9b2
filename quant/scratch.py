"""How much memory of its own an encoder gets from its caller. Kernels check at compile time that it is enough."""

SCRATCH_BYTES = 1 << 16
