"""Tokenizers of checkpoints: ids of other implementations through a converted file, and every small file's say."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import (
    CONFIG,
    byte_level_json,
    llama2c_tokenizer,
    tensors_of,
    write_hugging_face,
    write_json,
)

from converters.conversion import ConvertOptions, SourceOptions, plan_conversion, write_conversion
from converters.errors import ConvertError
from converters.fields import Fields
from converters.planned_file import PlannedFile
from converters.vocabulary import read_vocabulary
from converters.vocabulary.pre_tokenizer_names import name_of
from converters.vocabulary.vocabulary import Vocabulary
from edgellama.gguf import open_gguf
from edgellama.tokenizer import Tokenizer, from_gguf
from edgellama.tokenizer.vocabulary import TokenType

SPACE = "▁"


def read(where: Path, n_rows: int = 300, config: dict | None = None, generation: dict | None = None, pre=None):
    fields = Fields(CONFIG if config is None else config, where)
    return read_vocabulary(where, fields, Fields(generation or {}, where), pre, n_rows)


def tokenizer_of(vocabulary: Vocabulary) -> Tokenizer:
    return from_gguf(PlannedFile(Path("planned"), "llama", vocabulary.metadata(), []))


# Real tokenizers: a checkpoint around them is converted, and the file's ids are compared

ROWS = {"baichuan2": 125696, "chatglm2": 64794, "llama2": 32000, "llama3": 128256, "mistral": 32000, "opt": 50272}
ROWS |= {"qwen2": 151936, "tok512": 512}
RULES = {"opt": "gpt-2"}  # whose files say nothing of splitting


def convert_tokenizer(folder: Path, files: Path, n_rows: int, rule: str | None) -> Path:
    """The smallest checkpoint with these tokenizer files, converted."""
    config = CONFIG | {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": n_rows}
    config |= {"num_attention_heads": 1, "num_key_value_heads": 1, "tie_word_embeddings": True}
    config |= {"bos_token_id": None, "eos_token_id": None}
    write_hugging_face(folder, config, tensors_of(config), "BF16")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    for path in files.glob("*.*"):
        shutil.copyfile(path, folder / path.name.removeprefix("gpt2-"))
    options = ConvertOptions("f16", source=SourceOptions(pre_tokenizer=rule))
    return write_conversion(plan_conversion(folder, options), folder / "out.gguf")


@pytest.mark.parametrize("name", ROWS)
def test_real_tokenizer(shared_data, tmp_path, name):
    source = shared_data / "tokenizers" / name
    tokenizer = from_gguf(convert_tokenizer(tmp_path / "c", source, ROWS[name], RULES.get(name)))
    assert tokenizer.vocab_size == ROWS[name]
    for case in json.loads((source / "expected.json").read_text())["cases"]:
        ids = tokenizer.encode(case["text"], add_special=False)
        assert ids == case["ids"], case["text"]
        if case["round"]:
            assert tokenizer.decode(ids) == case["text"]


@pytest.mark.parametrize("name", ["llama2", "mistral"])
def test_sentencepiece_rewritten_as_json(shared_data, tmp_path, name):
    """The same ids where only tokenizer.json is there, whose merges stand in for scores."""
    source = shared_data / "tokenizers" / name
    shutil.copyfile(source / "tokenizer.json", tmp_path / "tokenizer.json")
    tokenizer = tokenizer_of(read(tmp_path, 32000))
    for case in json.loads((source / "expected.json").read_text())["cases"]:
        assert tokenizer.encode(case["text"], add_special=False) == case["ids"], case["text"]
    assert (tokenizer.adds_bos, tokenizer.adds_eos) == (True, False)


@pytest.mark.parametrize("name", ["llama31", "llama2-gqa"])
def test_prompt_of_a_real_checkpoint(shared_data, tmp_path, name):
    """The expected input_ids begin with BOS and are cut to 40."""
    folder = shared_data / "models" / name
    write_conversion(plan_conversion(folder), tmp_path / "out.gguf")
    expected = np.load(folder / "expected.npz")
    text = json.loads(str(expected["meta"]))["text"]
    assert from_gguf(tmp_path / "out.gguf").encode(text)[:40] == expected["input_ids"].tolist()


def test_special_tokens_of_llama3(shared_data, tmp_path):
    folder = shared_data / "tokenizers" / "llama3"
    vocabulary = read(folder, 128256, {})
    assert vocabulary.pre == "llama-bpe"
    assert vocabulary.special == {"bos": 128000, "eos": 128009, "eot": 128009, "eom": 128008}
    assert vocabulary.tokens[128006] == b"<|start_header_id|>"
    assert set(vocabulary.types[128000:]) == {TokenType.CONTROL}
    assert vocabulary.flags == {"add_bos_token": True, "add_eos_token": False}
    # The names that Meta's own folder lacks are those that the config lists; its end of a text is the base model's.
    shutil.copyfile(folder / "tokenizer.model", tmp_path / "tokenizer.model")
    bare = read(tmp_path, 128256, {})
    assert bare.tokens == vocabulary.tokens and bare.special == vocabulary.special | {"eos": 128001}


def test_merges_from_ranks_are_the_published_ones(shared_data):
    """Hugging Face's tokenizer.json of Llama 3, as llama.cpp converted it, has the same list in the same order."""
    with open_gguf(shared_data / "vocab" / "ggml-vocab-llama-bpe.gguf") as file:
        published = file.raw_strings("tokenizer.ggml.merges")
    vocabulary = read(shared_data / "tokenizers" / "llama3", 128256, {})
    assert len(published) == 280147
    assert [merge.encode() for merge in vocabulary.merges] == published


# Which rule splits the text


def split_by(pattern: str, **changes) -> dict:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} | changes
    return {"type": "Sequence", "pretokenizers": [step, {"type": "ByteLevel", "use_regex": False}]}


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize(
    ("rule", "whole_words", "name"),
    [
        (split_by(LLAMA3), True, "llama-bpe"),
        (split_by(LLAMA3), False, "smaug-bpe"),
        (split_by(LLAMA3, behavior="Removed", invert=True), True, "llama-bpe"),
        (split_by(LLAMA3.replace("{1,3}", "")), False, "qwen2"),
        ({"type": "ByteLevel"}, False, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [DIGITS, {"type": "ByteLevel"}]}, False, "starcoder"),
        (split_by("[a-z]+"), False, None),
        (split_by(LLAMA3, behavior="MergedWithNext"), False, None),
        ({"type": "BertPreTokenizer"}, False, None),
    ],
)
def test_splitting_rule(rule, whole_words, name):
    assert name_of(rule, whole_words) == name


def test_unknown_splitting_rule(tmp_path):
    write_json(tmp_path / "tokenizer.json", byte_level_json(pre_tokenizer=split_by("[a-z]+")))
    with pytest.raises(ConvertError, match=r"tokenizer\.json: splits text by '\[a-z\]\+'.*--pre-tokenizer"):
        read(tmp_path)
    assert read(tmp_path, pre="gpt-2").pre == "gpt-2"


# Small files


@pytest.fixture
def folder(tmp_path) -> Path:
    write_json(tmp_path / "tokenizer.json", byte_level_json())
    return tmp_path


def test_bytes_merge_and_padding(folder):
    vocabulary = read(folder)
    assert (len(vocabulary.tokens), vocabulary.tokens[256:259]) == (300, [b"<bos>", b"<eos>", b"ab"])
    assert vocabulary.types[255:260] == [1, 3, 3, 1, 5]
    assert vocabulary.tokens[299] == b"[PAD299]"
    assert vocabulary.merges == ["a b"]
    tokenizer = tokenizer_of(vocabulary)
    assert tokenizer.encode("cab", add_special=False) == [ord("c"), 258]
    assert tokenizer.encode("<bos>", add_special=False, parse_special=True) == [256]


def test_merges_in_the_old_spelling(folder):
    model = byte_level_json()["model"] | {"merges": ["a b"]}
    write_json(folder / "tokenizer.json", byte_level_json(model=model))
    assert read(folder).merges == ["a b"]


def test_vocab_and_merges(tmp_path):
    write_json(tmp_path / "vocab.json", byte_level_json()["model"]["vocab"])
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(ConvertError, match="--pre-tokenizer"):
        read(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    write_json(tmp_path / "added_tokens.json", {"<tool>": 299, "<eos>": 257})
    write_json(tmp_path / "special_tokens_map.json", {"eos_token": {"content": "<eos>"}})
    vocabulary = read(tmp_path, config={})
    assert (vocabulary.pre, vocabulary.merges) == ("gpt-2", ["a b"])
    assert vocabulary.tokens[299] == b"<tool>" and vocabulary.types[299] == TokenType.USER_DEFINED
    assert vocabulary.types[257] == TokenType.CONTROL and vocabulary.special == {"eos": 257}
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ConvertError, match=r"needs merges\.txt"):
        read(tmp_path)


def test_added_tokens_decoder_knows_better(folder):
    decoder = {"299": {"content": "<extra>", "special": False}, "257": {"content": "<end>", "special": True}}
    write_json(folder / "tokenizer_config.json", {"added_tokens_decoder": decoder, "eos_token": "<end>"})
    vocabulary = read(folder)
    assert vocabulary.tokens[257] == b"<end>" and vocabulary.special["eos"] == 257
    assert vocabulary.types[299] == TokenType.USER_DEFINED
    assert tokenizer_of(vocabulary).encode("a<extra>b", add_special=False) == [97, 299, 98]


def test_added_token_without_a_row(folder):
    write_json(folder / "added_tokens.json", {"<pad>": 300})
    vocabulary = read(folder)
    assert len(vocabulary.tokens) == 300
    assert vocabulary.notes == ["the embedding has no row for '<pad>': left out"]


def test_vocabulary_larger_than_the_embedding(folder):
    with pytest.raises(ConvertError, match="has 259 tokens, and the embedding has 100 rows"):
        read(folder, 100)


@pytest.mark.parametrize(
    ("tokenizer_config", "config", "generation", "special"),
    [
        ({}, {}, {}, {}),
        ({}, {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": -1}, {}, {"bos": 256, "eos": 257}),
        ({"bos_token": "<bos>", "eos_token": {"content": "<eos>"}}, {"eos_token_id": 258}, {}, "with eot 258"),
        ({"eos_token": "<eos>", "pad_token": "<eos>"}, {}, {}, {"eos": 257, "pad": 257}),
        ({"eos_token": "not there"}, {"eos_token_id": 257}, {}, {"eos": 257}),
        ({}, {}, {"eos_token_id": [257, 258, 97]}, {"eos": 257, "eot": 258}),
        ({}, {"eos_token_id": [300, 257]}, {}, {"eos": 257}),
        ({"unk_token": "<eos>"}, {}, {}, {"unk": 257}),
    ],
)
def test_roles(folder, tokenizer_config, config, generation, special):
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    wanted = {"bos": 256, "eos": 257, "eot": 258} if special == "with eot 258" else special
    assert read(folder, config=config, generation=generation).special == wanted


def template(*parts: str) -> dict:
    single = [{"Sequence": {"id": "A"}} if part == "A" else {"SpecialToken": {"id": part}} for part in parts]
    processors = [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": single}]
    return {"type": "Sequence", "processors": processors}


@pytest.mark.parametrize(
    ("tokenizer_config", "post_processor", "flags"),
    [
        ({}, None, (False, False)),
        ({"add_bos_token": True, "add_eos_token": True}, None, (True, True)),
        ({}, template("<bos>", "A"), (True, False)),
        ({}, template("<bos>", "A", "<eos>"), (True, True)),
        ({}, template("A"), (False, False)),
        ({"add_bos_token": False}, template("<bos>", "A"), (False, False)),
    ],
)
def test_what_is_put_around_a_text(folder, tokenizer_config, post_processor, flags):
    write_json(folder / "tokenizer.json", byte_level_json(post_processor=post_processor))
    write_json(folder / "tokenizer_config.json", {"bos_token": "<bos>", "eos_token": "<eos>"} | tokenizer_config)
    vocabulary = read(folder)
    assert (vocabulary.flags["add_bos_token"], vocabulary.flags["add_eos_token"]) == flags


def test_chat_templates(folder):
    assert read(folder).templates == {}
    write_json(folder / "tokenizer_config.json", {"chat_template": "one"})
    assert read(folder).metadata()["tokenizer.chat_template"] == "one"
    several = [{"name": "default", "template": "two"}, {"name": "tool-use", "template": "tools"}, {"name": 3}]
    write_json(folder / "tokenizer_config.json", {"chat_template": several})
    keys = read(folder).metadata()
    assert keys["tokenizer.chat_template"] == "two"
    assert keys["tokenizer.chat_template.tool_use"] == "tools"
    assert keys["tokenizer.chat_templates"] == ["tool_use"]
    write_json(folder / "chat_template.json", {"chat_template": "three"})
    assert read(folder).templates == {"default": "three", "tool_use": "tools"}
    (folder / "chat_template.jinja").write_text("four ▁")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("documents")
    assert read(folder).templates == {"default": "four ▁", "tool_use": "tools", "rag": "documents"}


def test_templates_and_tokens_in_a_file(tmp_path):
    source = write_hugging_face(tmp_path / "c", CONFIG, tensors_of(CONFIG))
    (source / "chat_template.jinja").write_text("{{ messages }}")
    write_json(source / "generation_config.json", {"eos_token_id": [257, 258]})
    write_conversion(plan_conversion(source), tmp_path / "out.gguf")
    with open_gguf(tmp_path / "out.gguf") as file:
        assert file.get("tokenizer.chat_template", str) == "{{ messages }}"
        assert file.get("tokenizer.ggml.eot_token_id", int) == 258
    assert from_gguf(tmp_path / "out.gguf").end_ids == {257, 258}


# SentencePiece, written as protobuf by hand


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def sentencepiece_bytes(trainer: bytes = number_field(3, 2), normalizer: bytes = b"", pieces=()) -> bytes:
    first = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *((f"<0x{b:02X}>", 0.0, 6) for b in range(256))]
    words = [(SPACE, -9.0, 1), ("a", -8.0, 1), ("b", -7.0, 1), ("ab", -2.0, 1), (SPACE + "ab", -1.0, 1)]
    data = b""
    for text, score, kind in [*first, *words, *pieces]:
        tail = b"" if kind == 1 else number_field(3, kind)
        data += message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + tail)
    return data + message(2, trainer) + message(3, normalizer)


def sentencepiece_folder(folder: Path, **changes) -> Path:
    (folder / "tokenizer.model").write_bytes(sentencepiece_bytes(**changes))
    return folder


def test_sentencepiece(tmp_path):
    vocabulary = read(sentencepiece_folder(tmp_path), config={})
    assert vocabulary.flags == {
        "add_space_prefix": True,
        "remove_extra_whitespaces": True,
        "add_bos_token": True,
        "add_eos_token": False,
    }
    assert vocabulary.special == {"unk": 0, "bos": 1, "eos": 2}
    assert vocabulary.scores[259:264] == [-9.0, -8.0, -7.0, -2.0, -1.0]
    tokenizer = tokenizer_of(vocabulary)
    assert tokenizer.encode(" abab é") == [1, 263, 262, 259, 3 + 0xC3, 3 + 0xA9]


def test_sentencepiece_normalizer(tmp_path):
    charsmap = b"\x00\x01\x02"
    normalizer = number_field(3, 0) + number_field(4, 0) + message(2, charsmap)
    vocabulary = read(sentencepiece_folder(tmp_path, normalizer=normalizer), config={})
    assert not vocabulary.flags["add_space_prefix"] and not vocabulary.flags["remove_extra_whitespaces"]
    assert vocabulary.metadata()["tokenizer.ggml.precompiled_charsmap"] == charsmap
    write_json(tmp_path / "tokenizer_config.json", {"add_prefix_space": True, "add_bos_token": False})
    flags = read(tmp_path, config={}).flags
    assert flags["add_space_prefix"] and not flags["add_bos_token"]


def test_sentencepiece_ids(tmp_path):
    """-1 is no token; the trainer's ids come before the config's, the tokenizer's texts before both."""
    trainer = number_field(3, 2) + number_field(41, -1) + number_field(43, 261)
    source = sentencepiece_folder(tmp_path, trainer=trainer)
    assert read(source, config={"pad_token_id": 5}).special == {"unk": 0, "eos": 2, "pad": 261}
    write_json(tmp_path / "tokenizer_config.json", {"bos_token": "<s>", "pad_token": "<unk>"})
    assert read(source, config={}).special == {"unk": 0, "bos": 1, "eos": 2, "pad": 0}


def test_sentencepiece_with_added_tokens(tmp_path):
    source = sentencepiece_folder(tmp_path)
    write_json(tmp_path / "added_tokens.json", {"<tool>": 264, "<|im_end|>": 265})
    decoder = {"0": {"content": "<unk>", "special": True}, "265": {"content": "<|im_end|>", "special": True}}
    write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": decoder})
    vocabulary = read(source, config={})
    assert vocabulary.types[264:266] == [TokenType.USER_DEFINED, TokenType.CONTROL]
    assert vocabulary.types[0] == TokenType.UNKNOWN
    tokenizer = tokenizer_of(vocabulary)
    assert tokenizer.encode("ab<tool>", add_special=False) == [263, 264]
    assert tokenizer.encode("<|im_end|>", add_special=False, parse_special=True) == [265]


def test_unigram_models_are_refused(tmp_path):
    source = sentencepiece_folder(tmp_path, trainer=number_field(3, 1))
    with pytest.raises(ConvertError, match=r"tokenizer\.model: is a SentencePiece model that is not BPE"):
        read(source)
    (source / "tokenizer.model").unlink()
    words = [["<unk>", 0.0], ["a", -1.5]]
    unigram = {"type": "Unigram", "vocab": words, "unk_id": 0, "byte_fallback": True}
    write_json(source / "tokenizer.json", byte_level_json(model=unigram))
    with pytest.raises(ConvertError, match="is a Unigram model"):
        read(source)


def test_bpe_scores_in_a_unigram_table(tmp_path):
    """Llama's SentencePiece scores, as some converters wrote them: whole numbers, best first."""
    words = [["<unk>", 0.0], ["<s>", 0.0], *([f"<0x{byte:02X}>", 0.0] for byte in range(256))]
    words += [[SPACE, -4.0], ["a", -5.0], ["b", -6.0], ["ab", -1.0]]
    unigram = {"type": "Unigram", "vocab": words, "unk_id": 0, "byte_fallback": True}
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first"}
    added = [{"id": 1, "content": "<s>", "special": True}]
    write_json(tmp_path / "tokenizer.json", {"model": unigram, "pre_tokenizer": metaspace, "added_tokens": added})
    tokenizer = tokenizer_of(read(tmp_path, config={"bos_token_id": 1}))
    assert tokenizer.encode("ab") == [1, 258, 261]


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer", "adds_space"),
    [
        ({"type": "Metaspace", "prepend_scheme": "always"}, None, True),
        ({"type": "Metaspace", "prepend_scheme": "never"}, None, False),
        ({"type": "Metaspace", "add_prefix_space": False}, None, False),
        (None, {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, {"type": "Replace"}]}, True),
        (None, {"type": "Replace"}, False),
    ],
)
def test_space_before_a_text(tmp_path, pre_tokenizer, normalizer, adds_space):
    model = {"type": "BPE", "vocab": {"<unk>": 0, SPACE: 1, "a": 2}, "merges": [], "byte_fallback": True}
    document = {"model": model, "pre_tokenizer": pre_tokenizer, "normalizer": normalizer}
    write_json(tmp_path / "tokenizer.json", document)
    assert read(tmp_path).flags["add_space_prefix"] is adds_space


def test_llama2c_tokens(tmp_path):
    (tmp_path / "tokenizer.bin").write_bytes(llama2c_tokenizer(300))
    vocabulary = read(tmp_path, config={})
    assert vocabulary.tokens[:4] == [b"<unk>", b"<s>", b"</s>", b"<0x00>"]
    assert vocabulary.types[:4] == [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, TokenType.BYTE]
    assert vocabulary.tokens[259] == (SPACE + "w0").encode() and vocabulary.scores[259] == -259.0


def test_llama2c_tokens_of_a_real_model(shared_data):
    """All but the treatment of spaces is that of the SentencePiece model they were made from."""
    folder = shared_data / "trained" / "stories260K"
    ours, original = (read(folder / name, 512, {}) for name in ("tok512.bin", "tokenizer.model"))
    assert ours.tokens == original.tokens and ours.types == original.types and ours.special == original.special
    np.testing.assert_allclose(ours.scores, original.scores)
    assert tokenizer_of(ours).encode("Once upon a time") == tokenizer_of(original).encode("Once upon a time")


# Damage


def small_bpe(vocab: object, merges: object = ()) -> bytes:
    model = {"type": "BPE", "vocab": vocab, "merges": list(merges), "byte_fallback": True}
    return json.dumps({"model": model}).encode()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("tokenizer.json", b"{", "no valid JSON"),
        ("tokenizer.json", b"[]", "JSON object"),
        ("tokenizer.json", b"\xff\xfe", "no valid JSON"),
        ("tokenizer.json", b"{}", "has no model"),
        ("tokenizer.json", b'{"model": {"type": "WordPiece"}}', "WordPiece"),
        ("tokenizer.json", small_bpe({"a": "x"}), "'a'"),
        ("tokenizer.json", small_bpe(3), "damaged"),
        ("tokenizer.json", small_bpe({"a": 9999999}), "ids up to 9999999"),
        ("tokenizer.json", small_bpe({"a": 0, "b": 0}), "two tokens"),
        ("tokenizer.json", small_bpe({"a": 0}, ["a"]), "no pair"),
        ("tokenizer.model", b"\x0a\xff\xff\xff\xff\x0fabc", "damaged"),
        ("tokenizer.model", b"\xff" * 40, "damaged"),
        ("tokenizer.model", b"", "no tokens"),
        ("tokenizer.model", b"IQ== 0\nIg== zero\n", "line 2"),
        ("tokenizer.model", b"IQ== 0\nIg== 2\n", "ranks"),
        ("tokenizer.bin", b"\x07\0\0\0\0\0\0\0\xff\xff\xff\x7f", "claims 2147483647 bytes"),
        ("tokenizer.bin", b"\x07\0\0\0\0\0", "ends inside token 0"),
        ("vocab.json", b"{}", "merges.txt"),
    ],
)
def test_damaged_tokenizer(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConvertError, match=words) as error:
        read(tmp_path, pre="gpt-2")
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def test_no_tokenizer(tmp_path):
    with pytest.raises(ConvertError, match=r"has no tokenizer .*--tokenizer"):
        read(tmp_path)


def test_tokenizer_from_another_place(tmp_path):
    source = write_hugging_face(tmp_path / "c", CONFIG, tensors_of(CONFIG))
    (source / "tokenizer.json").rename(tmp_path / "words.json")
    options = ConvertOptions(source=SourceOptions(tokenizer=tmp_path / "words.json"))
    assert plan_conversion(source, options).metadata["tokenizer.ggml.tokens"][258] == b"ab"
