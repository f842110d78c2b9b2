"""How the weights of each format lie on the GPU, and what 32 of them are: as numbers, and times 32 activations.

A matrix has up to three planes, each row after row: `codes`, `scales` and `extras`. A row has n_blocks blocks of 32
columns (the last may be padded with zeros). The codes of one block are 16-byte pieces; piece p of block b lies at
(p * n_blocks + b) * 16, so that the lanes of a warp, one block each, read memory without gaps. Nibbles: the low ones
are columns 0-15 of a block, the high ones columns 16-31.

    kind       codes (pieces)          scales                       extras
    q4_0       nibbles (1)             float16 a block              -
    q8_0       int8 (2)                float16 a block              -
    q4_k       nibbles (1)             16 bytes for 8 blocks: float16 scale and minimum scale; low 4 bits of the 8
                                       scales; low 4 bits of the 8 minimums; upper 2 bits of each in turn
    q6_k       low nibbles (1)         int8 for each 16 columns     upper 2 bits (8 bytes a block), then float16 scales
    f16, bf16  (4)                     -                            -
    f32        (8)                     -                            -
    fp8        (2)                     float32 a row and run of columns
"""

from .float_blocks import FLOAT_KINDS
from .integer_blocks import INTEGER_KINDS

KINDS = {**INTEGER_KINDS, **FLOAT_KINDS}
