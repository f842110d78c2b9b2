"""What a CUDA thread can do, as functions for kernels: the same names for PTX and for the emulator on this CPU.

    thread_index() block_index() block_index_y() block_index_z() block_threads() n_blocks()
    shared_memory()                        address of the block's shared memory
    block_barrier() warp_barrier()
    shuffle_xor(x, mask) shuffle_xor_int(x, mask)     the value of the lane whose number differs by mask
    dot16(codes, x, total)                 total + sum of 16 products of int8
    exp2(x) reciprocal_root(x) sine(x) cosine(x)
    load_weights(address) load_weights8(address)      16 or 8 bytes of global memory that nobody writes
    load_*/store_*                         global memory;  shared_load_*/shared_store_*  shared memory
    copy_async(shared, global) commit_copies() wait_copies()    16 bytes at a time
    load_matrices(address) load_matrices_transposed(address)    ldmatrix: four 8x8 matrices of halves
    multiply_low(a, b, c) multiply_high(a, b, c)      c + 16x16 halves by 16x8: columns 0-7 or 8-15 of b
    wait_for_previous() start_next()       order of kernels that overlap
    prefetch(address)                      into the second-level cache
    atomic_add(address, n) fence()         between blocks

Addresses of shared memory and of global memory are int64 and must not be mixed up.
"""

from .. import architecture

if architecture.current().is_emulated:
    from .emulated_thread import *  # noqa: F403
else:
    from .ptx_thread import *  # noqa: F403
