"""What the kernels that pass over logits (`kernels/sampling.py`, `kernels/leading.py`) and their callers agree on."""

BLOCK = 512  # logits that share their sums and 16 maxima
LANES = 16  # maxima of a block, and places that a kernel may write past the end
BINS = 1024  # of a histogram of scores
GROUP = 64  # scores that are put into bins together


def leading_scratch_bytes(n: int) -> int:
    """Memory for leading scores: a histogram, bins and weights of a group, and up to n scores with their logits."""
    return 8 * BINS + 12 * GROUP + 2 * 4 * (n + LANES)


def draw_scratch_bytes(n: int) -> int:
    """Memory for a draw: the sums of all blocks, and the weights of one."""
    return 4 * (-(-n // BLOCK) + BLOCK)
