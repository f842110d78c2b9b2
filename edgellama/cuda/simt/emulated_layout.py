"""Where an emulated CUDA thread finds its words, in int64 from the address of its fiber."""

THREAD, THREADS, BLOCK, BLOCK_Y, BLOCK_Z, BLOCKS = range(6)  # who it is
SHARED, BLOCK_BARRIER, WARP_BARRIER, EXCHANGE = range(6, 10)  # addresses of what it shares with others
CONTEXT, SCHEDULER, DONE, ENTRY = range(10, 14)  # its own and the scheduler's ucontext; has it ended; its code
PENDING, COMMITTED, QUEUE = range(14, 17)  # copies that no one waited for: how many; their memory, or 0 to copy at once
ARGUMENTS = 17
FIBER_WORDS = 48
LANES = 32
EXCHANGE_BYTES = 64  # of one lane
CONTEXT_BYTES = 1024  # a ucontext_t of glibc on x86-64 takes 968
STACK_BYTES = 1 << 16
QUEUE_BYTES = 16 * 64  # target and source of each copy
