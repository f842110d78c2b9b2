"""Tokenizers of small vocabularies, against ids found by hand; streams; hostile files."""

import random

import pytest
from gguf_builder import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT8, UINT32
from vocabulary_builder import (
    BYTE,
    CONTROL,
    NONE,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    bpe_keys,
    spelled,
    spm_keys,
    write_vocabulary,
)

from edgellama.errors import EdgellamaError, ModelError
from edgellama.gguf import open_gguf
from edgellama.tokenizer import Tokenizer, from_gguf


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


def test_end_tokens_are_control_tokens_whatever_the_file_says(make):
    for keys in (
        bpe_keys(specials=[("<|im_end|>", NORMAL), ("<|eot_id|>", USER_DEFINED)]),
        spm_keys([*WORDS, ("<|im_end|>", 0.0, NORMAL), ("<|eot_id|>", 0.0, USER_DEFINED)]),
    ):
        tokenizer = make(keys)
        last = tokenizer.vocab_size - 1
        assert {last - 1, last} <= tokenizer.end_ids
        assert tokenizer.is_special(last - 1) and tokenizer.is_special(last)
        text = "<|im_end|><|eot_id|>"
        assert tokenizer.encode(text, add_special=False, parse_special=True) == [last - 1, last]
        plain = tokenizer.encode(text, add_special=False)
        assert not {last - 1, last} & set(plain)
        assert tokenizer.decode(plain) == text


def test_harmony_goes_on_after_end(make):
    texts = ("<|return|>", "<|call|>", "<|end|>")
    assert make(bpe_keys(specials=[(text, CONTROL) for text in texts])).end_ids == {256, 257}
    assert make(bpe_keys(specials=[("<|end|>", CONTROL)])).end_ids == {256}


def test_sentencepiece_ids_that_the_file_does_not_name(make):
    silent = spm_keys(WORDS, bos_token_id=None, eos_token_id=None)
    assert (make(silent).bos_id, make(silent).eos_id) == (1, 2)
    assert make(silent).encode("ab") == [1, SPACE_AB]
    words = [*silent["token_type"][1][1]]
    words[1:3] = NORMAL, NORMAL
    assert make(silent | {"token_type": (ARRAY, (INT32, words))}).bos_id is None
    assert make(bpe_keys(specials=[("<s>", CONTROL)])).bos_id is None


def test_noncharacters_are_text(make):
    """U+FDD0 has a meaning inside the tokenizer, which no text of a user may meet."""
    for keys in (bpe_keys(), spm_keys(WORDS)):
        tokenizer = make(keys)
        assert tokenizer.decode(tokenizer.encode("a\ufdd0b", add_special=False)) == "a\ufdd0b"


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


# Hostile files


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": None}, "'tokenizer.ggml.model' is missing"),
        ({"model": (STRING, "no_vocab")}, "the file has no vocabulary (it says 'no_vocab')"),
        ({"model": (STRING, "none")}, "the file has no vocabulary (it says 'none')"),
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
        (
            {"pre": (STRING, "martian")},
            "the pre-tokenizer 'martian' is not supported; edgellama/tokenizer/pre_tokenizers.py lists",
        ),
        ({"pre": (UINT32, 3)}, "'tokenizer.ggml.pre' must be a string"),
        ({"merges": None}, "'tokenizer.ggml.merges' must be an array of strings"),
        ({"merges": (ARRAY, (INT32, [1]))}, "'tokenizer.ggml.merges' must be an array of strings"),
        ({"merges": (ARRAY, (STRING, ["a b", "b q"]))}, "has b'b q' as entry 1, which names no token"),
        ({"merges": (ARRAY, (STRING, ["ab"]))}, "has b'ab' as entry 0, which names no token"),
        ({"merges": (ARRAY, (STRING, ["", "a b"]))}, "has b'' as entry 0, which names no token"),
        ({"merges": (ARRAY, (STRING, ["a\nb b"]))}, "as entry 0, which names no token"),
        (
            {"merges": (ARRAY, (STRING, ["a b"] * 999_999 + ["x y"]))},
            "has b'x y' as entry 999999, which names no token",
        ),
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
    assert tokenizer.encode("\ufffd", add_special=False, parse_special=True)[1:] == [
        3 + byte for byte in b"\xef\xbf\xbd"
    ]


def test_repeated_merges_and_tokens(make):
    tokenizer = make(bpe_keys(["ab", "ab"], ["a b"] * 5))
    assert tokenizer.decode(tokenizer.encode("abab")) == "abab"
    assert len(tokenizer.encode("abab")) == 2


def test_empty_name_of_a_pre_tokenizer_is_none(make):
    assert make(bpe_keys(pre=(STRING, ""))).encode("a") == make(bpe_keys(pre=None)).encode("a") == [97]


def test_lone_surrogates_are_replaced(make):
    assert make(bpe_keys()).encode("a\udc80") == make(bpe_keys()).encode("a\ufffd")
