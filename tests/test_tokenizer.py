"""Tokenizers: real vocabularies against ids that other implementations gave, small ones against ids found by hand."""

import itertools
import json
import random
import time

import pytest
from gguf_builder import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT8, UINT32, gguf, key

from edgellama.errors import EdgellamaError, ModelError
from edgellama.gguf import open_gguf
from edgellama.tokenizer import Tokenizer, from_gguf
from edgellama.tokenizer.bpe import merge
from edgellama.tokenizer.pre_tokenizers import PRE_TOKENIZERS

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
NONE = 4294967295
VOCABULARIES = ("deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2")
SENTENCEPIECE = ("baichuan2", "chatglm2", "llama2", "mistral", "tok512")
# GPT-2's spelling of bytes, written out independently: the printable ones stand for themselves.
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
SPELLING = {byte: chr(byte) for byte in BYTES} | {
    byte: chr(256 + place) for place, byte in enumerate(byte for byte in range(256) if byte not in BYTES)
}


def spelled(text: str) -> str:
    return "".join(SPELLING[byte] for byte in text.encode())


def write_vocabulary(path, **values):
    """A GGUF file of `tokenizer.ggml.*` keys; a value of None leaves the key out."""
    keys = [key(f"tokenizer.ggml.{name}", *value) for name, value in values.items() if value is not None]
    path.write_bytes(gguf(keys))
    return path


def spm_keys(extra=(), **changes):
    """<unk> <s> </s>, the 256 bytes from id 3, then the `extra` tokens (text, score, type) from id 259."""
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    tokens += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    texts, scores, types = zip(*tokens, *extra, strict=True)
    return {
        "model": (STRING, "llama"),
        "tokens": (ARRAY, (STRING, texts)),
        "scores": (ARRAY, (FLOAT32, scores)),
        "token_type": (ARRAY, (INT32, types)),
        "bos_token_id": (UINT32, 1),
        "eos_token_id": (UINT32, 2),
    } | changes


def bpe_keys(words=(), merges=(), specials=(), **changes):
    """The 256 bytes as ids 0 to 255, then `words` as they are spelled, then `specials` (text, type)."""
    tokens = [*(SPELLING[byte] for byte in range(256)), *words, *(text for text, _ in specials)]
    types = [NORMAL] * (256 + len(words)) + [kind for _, kind in specials]
    return {
        "model": (STRING, "gpt2"),
        "pre": (STRING, "gpt-2"),
        "tokens": (ARRAY, (STRING, tokens)),
        "token_type": (ARRAY, (INT32, types)),
        "merges": (ARRAY, (STRING, list(merges))),
    } | changes


@pytest.fixture
def make(tmp_path):
    def make_tokenizer(keys) -> Tokenizer:
        return from_gguf(write_vocabulary(tmp_path / "v.gguf", **keys))

    return make_tokenizer


WORDS = [("▁", -9.0, NORMAL), ("a", -8.0, NORMAL), ("b", -7.0, NORMAL), ("ab", -2.0, NORMAL), ("▁ab", -1.0, NORMAL)]
SPACE, A, B, AB, SPACE_AB = range(259, 264)


# Small vocabularies


def test_spm_encode_and_decode(make):
    tokenizer = make(spm_keys(WORDS))
    assert tokenizer.vocab_size == 264
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.end_ids) == (1, 2, {2})
    assert tokenizer.encode("abab") == [1, SPACE_AB, AB]
    assert tokenizer.encode("abab", add_special=False) == [SPACE_AB, AB]
    assert tokenizer.encode(" é", add_special=False) == [SPACE, SPACE, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.encode("", add_special=False) == []
    assert tokenizer.decode([1, SPACE_AB, AB]) == "<s>abab"
    assert tokenizer.decode([1, SPACE_AB, AB], skip_special=True) == "abab"
    assert tokenizer.decode([AB, SPACE_AB]) == "ab ab"
    assert [tokenizer.piece_bytes(i) for i in (1, 3 + 0xC3, SPACE_AB)] == [b"<s>", b"\xc3", b" ab"]


def test_spm_options_of_the_file(make):
    plain = make(spm_keys(WORDS, add_space_prefix=(BOOL, 0), add_bos_token=(BOOL, 0), add_eos_token=(BOOL, 1)))
    assert plain.encode("ab ab") == [AB, SPACE_AB, 2]
    assert plain.decode([SPACE_AB]) == " ab"
    tidy = make(spm_keys(WORDS, remove_extra_whitespaces=(BOOL, 1)))
    assert tidy.encode("  ab   ab ") == [1, SPACE_AB, SPACE_AB]
    assert tidy.decode([SPACE, SPACE_AB]) == "ab"


def test_spm_special_tokens(make):
    tokenizer = make(spm_keys([*WORDS, ("<user>", 0.0, USER_DEFINED), ("<end_of_turn>", 0.0, CONTROL)]))
    assert tokenizer.end_ids == {2, 265}
    forged = tokenizer.encode("<s>", add_special=False)
    assert 1 not in forged
    assert tokenizer.decode(forged) == "<s>"
    assert tokenizer.encode("<s>ab</s>", add_special=False, parse_special=True) == [1, SPACE_AB, 2]
    # A user-defined token is part of the text: it is found without being asked for.
    assert tokenizer.encode("ab<user>ab", add_special=False) == [SPACE_AB, 264, AB]


def test_spm_vocabulary_with_flaws(make):
    """Files in the wild repeat tokens, have empty ones, several unknown ones or none, and lack bytes."""
    flaws = [("ab", 0.0, NORMAL), ("", 0.0, NORMAL), ("<unk2>", 0.0, UNKNOWN)]
    assert make(spm_keys([*WORDS, *flaws])).encode("ab") == [1, SPACE_AB]
    keys = spm_keys(WORDS)
    types = [NORMAL, *keys["token_type"][1][1][1:]]
    assert make(keys | {"token_type": (ARRAY, (INT32, types))}).encode("ab") == [1, SPACE_AB]
    three = {"tokens": ["<s>", "▁", "a"], "scores": [0.0, -1.0, -2.0], "token_type": [CONTROL, NORMAL, NORMAL]}
    kinds = {"tokens": STRING, "scores": FLOAT32, "token_type": INT32}
    few = {name: (ARRAY, (kinds[name], values)) for name, values in three.items()}
    tokenizer = make({"model": (STRING, "llama"), "bos_token_id": (UINT32, NONE), **few})
    assert tokenizer.encode("aXa") == [1, 2, 2]
    assert tokenizer.bos_id is None


def test_types_may_be_missing(make):
    tokenizer = make(spm_keys(WORDS, token_type=None, unknown_token_id=(UINT32, 0)))
    assert tokenizer.encode("é", add_special=False) == [SPACE, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode([3 + 0xC3, 3 + 0xA9]) == "é"


def test_bpe_encode_and_decode(make):
    words = ["ab", spelled(" ab")]
    tokenizer = make(bpe_keys(words, ["a b", spelled(" ") + " ab"], [("<|im_end|>", CONTROL), ("<x y>", USER_DEFINED)]))
    assert tokenizer.encode("ab ab") == [256, 257]
    assert tokenizer.encode("bé") == [ord("b"), 0xC3, 0xA9]
    assert tokenizer.decode([257, 0xC3, 0xA9]) == " abé"
    assert (tokenizer.bos_id, tokenizer.end_ids) == (None, {258})
    assert 258 not in tokenizer.encode("<|im_end|>")
    assert tokenizer.encode("ab<|im_end|>", parse_special=True) == [256, 258]
    assert tokenizer.encode("ab<x y>ab") == [256, 259, 256]
    assert tokenizer.decode([259]) == "<x y>"


def test_bpe_obeys_the_merge_list(make):
    """`abc` is a token, yet no merge leads from `a`, `bc` to it."""
    keys = bpe_keys(["bc", "ab", "abc"], ["b c", "a b", "ab c"])
    assert make(keys).encode("abc") == [ord("a"), 256]
    whole_words = keys | {"pre": (STRING, "llama-bpe"), "add_bos_token": (BOOL, 0)}
    assert make(whole_words).encode("abc") == [258]


def test_bpe_begin_of_text(make):
    keys = bpe_keys(specials=[("<s>", CONTROL)], bos_token_id=(UINT32, 256))
    assert make(keys).encode("a") == [97]
    assert make(keys | {"pre": (STRING, "llama-bpe")}).encode("a") == [256, 97]
    assert make(keys | {"add_bos_token": (BOOL, 1)}).encode("a") == [256, 97]


def test_bpe_without_all_bytes(make):
    few = bpe_keys() | {"tokens": (ARRAY, (STRING, ["a", "b", "<unk>"])), "token_type": None}
    assert make(few).encode("abcab") == [0, 1, 0, 1]
    assert make(few | {"unknown_token_id": (UINT32, 2)}).encode("abc") == [0, 1, 2]


def test_harmony_goes_on_after_end(make):
    texts = ("<|return|>", "<|call|>", "<|end|>")
    assert make(bpe_keys(specials=[(text, CONTROL) for text in texts])).end_ids == {256, 257}
    assert make(bpe_keys(specials=[("<|end|>", CONTROL)])).end_ids == {256}


def test_from_open_file(tmp_path):
    path = write_vocabulary(tmp_path / "v.gguf", **spm_keys(WORDS))
    with open_gguf(path) as file:
        tokenizer = from_gguf(file)
    assert tokenizer.encode("ab") == [1, SPACE_AB]


# Streams


def test_stream_holds_back_half_characters(make):
    tokenizer = make(spm_keys(WORDS))
    stream = tokenizer.stream()
    ids = [SPACE_AB, *(3 + byte for byte in "é🦙".encode())]
    assert [stream.push(i) for i in ids] == [" ab", "", "é", "", "", "", "🦙"]
    assert stream.finish() == ""
    assert stream.push(3 + 0xF0) == ""
    assert stream.finish() == "\ufffd"
    start = tokenizer.stream(at_start=True)
    assert [start.push(i) for i in (1, SPACE_AB, SPACE_AB)] == ["", "ab", " ab"]


def test_stream_equals_decoding_at_once(make):
    tokenizer = make(spm_keys(WORDS))
    chance = random.Random(5)
    for _ in range(200):
        data = chance.randbytes(12) + "🦙é".encode()[: chance.randrange(7)]
        stream = tokenizer.stream()
        text = "".join([stream.push(3 + byte) for byte in data]) + stream.finish()
        assert text == data.decode(errors="replace")


@pytest.mark.parametrize("index", [-1, 264, 10**12])
def test_ids_outside_the_vocabulary(make, index):
    tokenizer = make(spm_keys(WORDS))
    with pytest.raises(EdgellamaError, match=f"token id {index} is outside the vocabulary"):
        tokenizer.decode([index])


# Merging and splitting


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


def test_long_word_is_not_quadratic(make):
    tokenizer = make(bpe_keys(["aa", "aaaa"], ["a a", "aa aa"]))
    start = time.perf_counter()
    assert tokenizer.encode("a" * 100_000) == [257] * 25_000
    assert time.perf_counter() - start < 10


def random_text(chance: random.Random) -> str:
    def letter() -> str:
        ranges = ((32, 127), (32, 127), (9, 14), (0xA0, 0x250), (0x400, 0x500), (0x3040, 0xA000), (0x1F300, 0x1F700))
        return chr(chance.randrange(*chance.choice(ranges)))

    return "".join(letter() for _ in range(chance.randrange(24)))


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_splitting_loses_nothing(name):
    chance = random.Random(7)
    for _ in range(100):
        text = random_text(chance)
        words = PRE_TOKENIZERS[name].split(text)
        assert "".join(words) == text
        assert all(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt-2", ["It", "'s", " 12345", " days", "\n", "\n", "x"]),
        ("llama-bpe", ["It", "'s", " ", "123", "45", " days", "\n\n", "x"]),
        ("qwen2", ["It", "'s", " ", "1", "2", "3", "4", "5", " days", "\n\n", "x"]),
        ("starcoder", ["It", "'s", " ", "1", "2", "3", "4", "5", " days", "\n", "\n", "x"]),
        ("falcon", ["It", "'", "s", " ", "123", "45", " days", "\n", "\n", "x"]),
        ("deepseek-llm", ["It", "'", "s", " ", "12345", " days", "\n", "\n", "x"]),
        ("deepseek-v3", ["It", "'s", " ", "123", "45", " days", "\n\n", "x"]),
    ],
)
def test_splitting_by_hand(name, words):
    assert PRE_TOKENIZERS[name].split("It's 12345 days\n\nx") == words


# Hostile files


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": None}, "'tokenizer.ggml.model' is missing"),
        ({"model": (STRING, "rwkv")}, "the tokenizer kind 'rwkv' is not supported; supported are gpt2, llama"),
        ({"tokens": None}, "'tokenizer.ggml.tokens' must be an array of strings"),
        ({"tokens": (ARRAY, (INT32, [1, 2, 3]))}, "'tokenizer.ggml.tokens' must be an array of strings"),
        ({"tokens": (ARRAY, (STRING, []))}, "'tokenizer.ggml.tokens' must hold at least one token"),
        ({"scores": None}, "'tokenizer.ggml.scores' is missing"),
        ({"scores": (ARRAY, (FLOAT32, [0.0, 1.0]))}, "one entry for each of the 264 tokens, and has 2"),
        ({"scores": (ARRAY, (INT32, [0] * 264))}, "must be an array of numbers, and is an array of int32"),
        ({"scores": (ARRAY, (FLOAT32, [float("nan")] * 264))}, "holds a number that is not finite"),
        ({"token_type": (ARRAY, (INT32, [1] * 263))}, "one entry for each of the 264 tokens, and has 263"),
        ({"token_type": (ARRAY, (FLOAT32, [1.0] * 264))}, "must be an array of integers"),
        ({"token_type": (ARRAY, (INT32, [1] * 263 + [7]))}, "gives token 263 the unknown type 7"),
        ({"token_type": (ARRAY, (INT32, [-1] + [1] * 263))}, "gives token 0 the unknown type -1"),
        ({"token_type": (ARRAY, (INT32, [BYTE] * 264))}, "as byte token 0, which is not spelled like <0x0A>"),
        ({"bos_token_id": (UINT32, 264)}, "'tokenizer.ggml.bos_token_id' is 264, and the vocabulary ends at 263"),
        ({"eos_token_id": (INT32, -2)}, "'tokenizer.ggml.eos_token_id' is -2"),
        ({"eot_token_id": (UINT32, 2**31)}, "'tokenizer.ggml.eot_token_id' is 2147483648"),
        ({"bos_token_id": (STRING, "1")}, "'tokenizer.ggml.bos_token_id' must be an integer"),
        ({"add_bos_token": (UINT32, 1)}, "'tokenizer.ggml.add_bos_token' must be a boolean"),
        ({"precompiled_charsmap": (ARRAY, (UINT8, [255] * 9))}, "SentencePiece cannot use the vocabulary"),
    ],
)
def test_hostile_spm_vocabulary(tmp_path, change, problem):
    path = write_vocabulary(tmp_path / "bad.gguf", **(spm_keys(WORDS) | change))
    with pytest.raises(ModelError) as caught:
        from_gguf(path)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pre": (STRING, "martian")}, "the pre-tokenizer 'martian' is not supported; supported are bailingmoe"),
        ({"pre": (UINT32, 3)}, "'tokenizer.ggml.pre' must be a string"),
        ({"merges": None}, "'tokenizer.ggml.merges' must be an array of strings"),
        ({"merges": (ARRAY, (INT32, [1]))}, "'tokenizer.ggml.merges' must be an array of strings"),
        ({"merges": (ARRAY, (STRING, ["a b", "b q"]))}, "has b'b q' as entry 1, which names no token"),
        ({"merges": (ARRAY, (STRING, ["ab"]))}, "has b'ab' as entry 0, which names no token"),
        ({"merges": (ARRAY, (STRING, ["", "a b"]))}, "has b'' as entry 0, which names no token"),
        ({"merges": (ARRAY, (STRING, ["a\nb b"]))}, "as entry 0, which names no token"),
    ],
)
def test_hostile_bpe_vocabulary(tmp_path, change, problem):
    path = write_vocabulary(tmp_path / "bad.gguf", **(bpe_keys(["ab"], ["a b"]) | change))
    with pytest.raises(ModelError) as caught:
        from_gguf(path)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_ids_of_none(make):
    tokenizer = make(spm_keys(WORDS, bos_token_id=(UINT32, NONE), eos_token_id=(INT32, -1)))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.end_ids) == (None, None, set())
    assert tokenizer.encode("ab") == [SPACE_AB]


def test_tokens_that_are_no_utf8(make):
    tokenizer = make(spm_keys([*WORDS, (b"\xc3", -1.0, NORMAL), (b"\xff", 0.0, CONTROL)]))
    assert tokenizer.encode("abé", parse_special=True) == [1, SPACE_AB, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.piece_bytes(264) == b"\xc3"


def test_lone_surrogates_are_replaced(make):
    assert make(bpe_keys()).encode("a\udc80") == make(bpe_keys()).encode("a\ufffd")


# Real vocabularies


@pytest.fixture(scope="module")
def vocabulary(shared_data):
    made: dict[str, Tokenizer] = {}

    def open_vocabulary(name: str) -> Tokenizer:
        if name not in made:
            made[name] = from_gguf(shared_data / "vocab" / f"ggml-vocab-{name}.gguf")
        return made[name]

    return open_vocabulary


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabulary(vocabulary, shared_data, name):
    base = shared_data / "vocab" / f"ggml-vocab-{name}.gguf"
    with open(f"{base}.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    with open(f"{base}.out", encoding="utf-8") as file:
        lines = file.read().split("\n")[: len(texts)]
    expected = [[int(number) for number in line.split()] for line in lines]
    assert [vocabulary(name).encode(text, add_special=False) for text in texts] == expected
    assert [vocabulary(name).decode(ids) for ids in expected] == texts


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabulary_returns_any_text(vocabulary, name):
    tokenizer, chance = vocabulary(name), random.Random(8)
    lacking = {chr(byte) for byte in range(128) if not tokenizer.encode(chr(byte), add_special=False)}
    assert bool(lacking) == (name == "falcon")  # some control characters
    for _ in range(300):
        text = "".join(letter for letter in random_text(chance) if letter not in lacking)
        assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text
        assert tokenizer.decode(tokenizer.encode(text), skip_special=True) == text


def check_cases(tokenizer: Tokenizer, folder) -> None:
    cases = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) > 50
    for case in cases:
        assert tokenizer.encode(case["text"], add_special=False) == case["ids"], case["text"]
        assert (tokenizer.decode(case["ids"]) == case["text"]) == case["round"], case["text"]


@pytest.mark.parametrize(("folder", "name"), [("llama2", "llama-spm"), ("llama3", "llama-bpe"), ("qwen2", "qwen2")])
def test_expected_ids(vocabulary, shared_data, folder, name):
    check_cases(vocabulary(name), shared_data / "tokenizers" / folder)


def test_expected_ids_of_opt(shared_data, tmp_path):
    folder = shared_data / "tokenizers" / "opt"
    ids = json.loads((folder / "gpt2-vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "gpt2-merges.txt").read_text(encoding="utf-8").split("\n")
    keys = {"model": (STRING, "gpt2"), "pre": (STRING, "gpt-2"), "tokens": (ARRAY, (STRING, sorted(ids, key=ids.get)))}
    merges = (ARRAY, (STRING, [line for line in lines if line and not line.startswith("#version")]))
    check_cases(from_gguf(write_vocabulary(tmp_path / "v.gguf", merges=merges, **keys)), folder)


def protobuf_fields(data: bytes):
    """(field number, value) of a protobuf message: an integer, or the bytes of anything else."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value, at

    position = 0
    while position < len(data):
        tag, position = varint(position)
        if tag & 7 == 0:
            value, position = varint(position)
        else:
            size, position = varint(position) if tag & 7 == 2 else (4, position)
            value, position = data[position : position + size], position + size
        yield tag >> 3, value


def keys_of_sentencepiece(model: bytes):
    """What a converter writes for a SentencePiece model, read without the library."""
    pieces = [dict(protobuf_fields(value)) for field, value in protobuf_fields(model) if field == 1]
    normalizer = dict(protobuf_fields(next(value for field, value in protobuf_fields(model) if field == 3)))
    scores = [int.from_bytes(piece.get(2, b""), "little") for piece in pieces]
    return {
        "model": (STRING, "llama"),
        "tokens": (ARRAY, (STRING, [piece[1] for piece in pieces])),
        "scores": (ARRAY, (FLOAT32, memoryview(b"".join(s.to_bytes(4, "little") for s in scores)).cast("f").tolist())),
        "token_type": (ARRAY, (INT32, [piece.get(3, NORMAL) for piece in pieces])),
        "add_space_prefix": (BOOL, normalizer.get(3, 1)),
        "remove_extra_whitespaces": (BOOL, normalizer.get(4, 1)),
        "precompiled_charsmap": (ARRAY, (UINT8, list(normalizer.get(2, b"")))),
    }


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece_models(shared_data, tmp_path, name):
    import sentencepiece

    folder = shared_data / "tokenizers" / name
    keys = keys_of_sentencepiece((folder / "tokenizer.model").read_bytes())
    tokenizer = from_gguf(write_vocabulary(tmp_path / "v.gguf", **keys))
    check_cases(tokenizer, folder)
    original = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    chance = random.Random(9)
    for _ in range(500):
        text = random_text(chance)
        ids = original.EncodeAsIds(text)
        assert tokenizer.encode(text, add_special=False) == ids, text
        assert tokenizer.decode(ids) == original.DecodeIds(ids), text
