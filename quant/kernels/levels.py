"""The levels of formats without a minimum: for each a function to the nearest level and one to its code."""

from edgellama.formats.iq4_nl import LEVELS

from .lanes import make_even_levels, make_levels

level_of_3_bits, code_of_3_bits = make_even_levels(8)
level_of_4_bits, code_of_4_bits = make_even_levels(16)
level_of_5_bits, code_of_5_bits = make_even_levels(32)
level_of_6_bits, code_of_6_bits = make_even_levels(64)
level_iq4_nl, code_iq4_nl = make_levels(LEVELS.tolist())
