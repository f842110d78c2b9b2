"""How byte-level BPE splits and merges, against the definitions and what other implementations gave."""

import itertools
import random
import time

import pytest
import regex
from vocabulary_builder import bpe_keys, random_text, write_vocabulary

from edgellama.tokenizer import from_gguf
from edgellama.tokenizer.bpe import merge
from edgellama.tokenizer.pre_tokenizers import PRE_TOKENIZERS


def merge_slowly(symbols: list[str], ranks: dict[str, int]) -> list[str]:
    """The definition: of all neighbours with a rank, join the lowest, leftmost; repeat."""
    while True:
        pairs = [(ranks.get(f"{a} {b}"), i) for i, (a, b) in enumerate(itertools.pairwise(symbols))]
        possible = [pair for pair in pairs if pair[0] is not None]
        if not possible:
            return symbols
        at = min(possible)[1]
        symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]


def test_merge_is_its_definition():
    chance = random.Random(6)
    parts = [a + b for a in ("a", "b", "ab", "ba", "aa") for b in ("", "a", "b", "bb")]
    for _ in range(300):
        ranks = {f"{chance.choice(parts)} {chance.choice(parts)}": rank for rank in range(30)}
        word = "".join(chance.choices("ab", k=chance.randrange(14)))
        encoded = {pair.encode(): rank for pair, rank in ranks.items()}
        merged = merge([letter.encode() for letter in word], encoded)
        assert [symbol.decode() for symbol in merged] == merge_slowly(list(word), ranks), (word, ranks)


def test_long_word_is_not_quadratic(tmp_path):
    tokenizer = from_gguf(write_vocabulary(tmp_path / "v.gguf", **bpe_keys(["aa", "aaaa"], ["a a", "aa aa"])))
    start = time.perf_counter()
    assert tokenizer.encode("a" * 100_000) == [257] * 25_000
    assert time.perf_counter() - start < 10


def test_long_words_are_not_kept(tmp_path):
    tokenizer = from_gguf(write_vocabulary(tmp_path / "v.gguf", **bpe_keys(["aa"], ["a a"])))
    for n in range(100, 200):
        assert tokenizer.encode("a" * n + " b " + "a" * n)[: n // 2] == [256] * (n // 2)
    assert tokenizer._word_ids.cache_info().currsize == 1  # " b"


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_splitting_loses_nothing(name):
    chance = random.Random(7)
    for _ in range(100):
        text = random_text(chance)
        words = PRE_TOKENIZERS[name].split(text)
        assert "".join(words) == text
        assert all(words)


# What Hugging Face `tokenizers` 0.23.3 makes of TEXT with the models' own expressions.
TEXT = "It's o'Meara 12345 ½ aXYz e\u0301 中カ한 b_c=d/!\n\n `1`\t\nu\n\n  v"
WORDS = [
    ("gpt-4o", "It's| o'M|eara| |123|45| |½| a|XYz| e\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("tekken", "It|'s| o|'Meara| |1|2|3|4|5| |½| a|XYz| e\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("kimi-k2", "It's| o'M|eara| |123|45| |½| a|XYz| e\u0301| |中|カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("tiny_aya", "It's| o'M|eara| |12|345| |½| a|XYz| e\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    (
        "deepseek-llm",
        "It|'|s| o|'|Meara| |12345| |½| aXYz| e|\u0301 |中カ한| b|_|c|=|d|/!|\n|\n| `|1|`|\t|\n|u|\n|\n| | v",
    ),
    (
        "deepseek-coder",
        "It|'|s| o|'|Meara| |1|2|3|4|5| |½| aXYz| e|\u0301| |中カ한| b|_|c|=|d|/!|\n|\n| `|1|`\t|\n|u|\n|\n| | v",
    ),
    ("deepseek-v3", "It|'s| o|'Meara| |123|45| |½| aXYz| e\u0301| |中カ|한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("youtu", "It's| o'M|eara| |1|2|3|4|5| |½| a|XYz| e\u0301| |中カ|한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("llama-bpe", "It|'s| o|'M|eara| |123|45| |½| aXYz| e|\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("qwen2", "It|'s| o|'M|eara| |1|2|3|4|5| |½| aXYz| e|\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("qwen35", "It|'s| o|'M|eara| |1|2|3|4|5| |½| aXYz| e\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("seed-coder", "It|'s| o|'M|eara| |1|2|3|4|5| |½| aXYz| e|\u0301| 中カ한| b|_c|=d|/!|\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("exaone-moe", "It|'s| o|'M|eara| |1|2|3|4|5| |½| aXYz e\u0301 中カ한 b|_c|=d|/!\n|\n| `|1|`|\t\n|u|\n\n| | v"),
    ("superbpe", "It's o'Meara |12|345| |½| aXYz e\u0301 中カ한 b_c=d/!\n\n `|1|`\t\nu\n\n  v"),
    ("bloom", "It's| o'Meara| 12345| ½| aXYz| e\u0301| 中カ한| b_c=d/|!\n\n| `1`|\t\n|u|\n\n | v"),
    ("viking", "It's| o'Meara| |1|2|3|4|5| |½| aXYz| e\u0301| 中カ한| b_c=d/|!\n\n| `|1|`|\t\n|u|\n\n | v"),
    (
        "spark2_5",
        "It|'s| o|'Meara| |1|2|3|4|5| |½| aXYz| e\u0301| |中カ|한| b|_c|=d|/!|\n|\n| `|1|`|\t|\n|u|\n|\n| | v",
    ),
    ("afmoe", "It|'s| o|'Meara| |12|345| |½| aXYz| e\u0301| |中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    (
        "starcoder",
        "It|'s| o|'|Meara| |1|2|3|4|5| |½| aXYz| e|\u0301| 中カ한| b|_|c|=|d|/!|\n\n| `|1|`|\t|\n|u|\n\n | v",
    ),
    ("gpt-2", "It|'s| o|'|Meara| 12345| ½| aXYz| e|\u0301| 中カ한| b|_|c|=|d|/!|\n\n| `|1|`|\t|\n|u|\n\n | v"),
    ("laguna", "It|'s| o|'M|eara| |1|2|3|4|5| |½| aXYz| e|\u0301| 中カ한| b|_c|=d|/!|\n\n| `|1|`|\t|\n|u|\n\n| | v"),
    ("ufakzeka", "It|'s| o|'Meara| |1|2|3|4|5| |½| aXYz| e|\u0301| 中カ한| b|_c|=d|/!\n\n| `|1|`|\t\n|u|\n\n| | v"),
    ("falcon", "It|'|s| o|'|Meara| |123|45| ½| aXYz| e|\u0301| 中カ한| b|_|c|=|d|/!|\n\n |`|1|`|\t|\n|u|\n\n | v"),
]


@pytest.mark.parametrize(("name", "words"), WORDS, ids=[name for name, _ in WORDS])
def test_splitting_as_others_do(name, words):
    assert PRE_TOKENIZERS[name].split(TEXT) == words.split("|")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gpt-2", "It's 12345 days\n\nx", ["It", "'s", " 12345", " days", "\n", "\n", "x"]),
        ("starcoder", "a 12\n\nx", ["a", " ", "1", "2", "\n", "\n", "x"]),
        ("jais-2", "a" + 14 * " " + "b", ["a", 8 * " ", 4 * " ", " ", " b"]),
        ("bailingmoe", "I'LL\n\n\nx", ["I", "'LL", "\n\n\n", "x"]),
        ("minicpm5", "12345x", ["123", "45", "x"]),
        ("chameleon", "xIMGIMGABZ\t!!", ["x", "IMGIMGABZ", "\t", "!", "!"]),
        ("kimi-k2", "々中a", ["々中", "a"]),
        ("exaone-moe", "ab cd.ef", ["ab cd", ".ef"]),
    ],
)
def test_splitting_by_hand(name, text, words):
    assert PRE_TOKENIZERS[name].split(text) == words


@pytest.mark.parametrize("name", ["gpt-neox", "pythia", "mpt", "olmo", "phi-2"])
def test_names_of_one_splitter(name):
    assert PRE_TOKENIZERS[name] == PRE_TOKENIZERS["gpt-2"]


def test_what_a_name_says_besides_the_splitting():
    begins = {name for name, rules in PRE_TOKENIZERS.items() if rules.adds_bos}
    assert begins >= {"llama-bpe", "llama3", "tekken", "chameleon", "pixtral", "falcon3"}
    assert not begins & {"gpt-2", "qwen2", "smaug-bpe", "glm4", "gpt-4o", "youtu"}
    whole = {name for name, rules in PRE_TOKENIZERS.items() if rules.whole_words}
    assert whole >= {"llama-bpe", "tekken", "glm4", "youtu", "minicpm5"}
    assert not whole & {"gpt-2", "qwen2", "smaug-bpe", "chatglm-bpe", "gpt-4o", "chameleon"}


# The originals of expressions that are stated in another way here, to take linear time.
ORIGINALS = {
    "superbpe": (r"\p{N}+", r"(?=(?:\d{3})+(?!\d))"),
    "tiny_aya": (r"\d{1,3}(?=(?:\d{3})*(?![\p{L}\p{M}\p{N}\p{Pc}]))", None),
    "afmoe": (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", None, None),
    "deepseek-llm": (None, None, None, r"\s+$", None, None),
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_splitting_is_the_original(name):
    ours = PRE_TOKENIZERS[name]
    n_after = len(ORIGINALS[name])
    stated = [given or same for given, same in zip(ORIGINALS[name], ours.patterns[-n_after:], strict=True)]
    chance = random.Random(10)
    for _ in range(1000):
        text = "".join(
            chance.choices("1234567½٣ \u3000a_.中\n", (2, 2, 2, 2, 2, 2, 2, 1, 1, 3, 1, 1, 1, 1, 1, 1), k=12)
        )
        pieces = [text]
        for pattern in stated:
            pieces = [word for piece in pieces for word in regex.split(f"({pattern})", piece) if word]
        assert ours.split(text) == pieces, text


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_splitting_takes_linear_time(name):
    """With a square in it, any of these takes minutes."""
    n = 30_000
    runs = [
        "1" * n,
        "1" * n + "a",
        " " * n + "5",
        " " * n + ".",
        "\n" * n + "a",
        "A" * n + "1",
        "a" * n + "1",
        "中" * n,
    ]
    start = time.perf_counter()
    for text in runs:
        assert "".join(PRE_TOKENIZERS[name].split(text)) == text
    assert time.perf_counter() - start < 5
