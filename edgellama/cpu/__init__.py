"""The CPU interpreter: weights packed for SIMD, kernels bound to a Program, worker threads that walk it together."""
