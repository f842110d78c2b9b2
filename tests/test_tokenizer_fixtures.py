"""Real vocabularies against ids that other implementations gave, and round trips through them."""

import base64
import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vocabulary_builder import (
    bpe_keys_of_files,
    bpe_keys_of_ranks,
    random_text,
    spm_keys_of_model,
    write_vocabulary,
)

from edgellama.tokenizer import Tokenizer, from_gguf
from edgellama.tokenizer.spm import SentencePieceTokenizer

VOCABULARIES = ("deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2")
SENTENCEPIECE = ("baichuan2", "chatglm2", "llama2", "mistral", "tok512")
BYTE_LEVEL = {"llama3": "llama-bpe", "opt": "gpt-2", "qwen2": "qwen2"}  # folder -> pre-tokenizer
# tok512 joins spaces, falcon has no tokens for some control characters: their texts do not all come back.
LOSSLESS = ("deepseek-llm", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "baichuan2", "chatglm2", "opt")


def keys_of_folder(folder) -> dict:
    """What a converter writes for the tokenizer files of a model."""
    if folder.name in SENTENCEPIECE:
        return spm_keys_of_model((folder / "tokenizer.model").read_bytes())
    if folder.name == "llama3":
        lines = (line.split() for line in (folder / "tokenizer.model").read_bytes().splitlines())
        return bpe_keys_of_ranks(BYTE_LEVEL["llama3"], {base64.b64decode(token): int(rank) for token, rank in lines})
    ids = json.loads(next(folder.glob("*vocab.json")).read_text(encoding="utf-8"))
    merges = next(folder.glob("*merges.txt")).read_text(encoding="utf-8").split("\n")
    return bpe_keys_of_files(
        BYTE_LEVEL[folder.name], ids, [line for line in merges if line and line[0:9] != "#version:"]
    )


@pytest.fixture(scope="module")
def open_tokenizer(shared_data, tmp_path_factory):
    """The tokenizer of a real vocabulary (a GGUF file) or folder (a GGUF file made of it), by name."""
    made: dict[str, Tokenizer] = {}

    def make(name: str) -> Tokenizer:
        if name not in made:
            path = shared_data / "vocab" / f"ggml-vocab-{name}.gguf"
            if not path.exists():
                keys = keys_of_folder(shared_data / "tokenizers" / name.removeprefix("folder "))
                path = write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "v.gguf", **keys)
            made[name] = from_gguf(path)
        return made[name]

    return make


@pytest.mark.parametrize("name", VOCABULARIES)
def test_vocabulary(open_tokenizer, shared_data, name):
    tokenizer, base = open_tokenizer(name), shared_data / "vocab" / f"ggml-vocab-{name}.gguf"
    with open(f"{base}.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    with open(f"{base}.out", encoding="utf-8") as file:
        lines = file.read().split("\n")
    expected = [[int(number) for number in line.split()] for line in lines]
    assert len(texts) == len(expected) == 47
    assert [tokenizer.encode(text, add_special=False) for text in texts] == expected
    assert [tokenizer.decode(ids) for ids in expected] == texts


def check_cases(tokenizer: Tokenizer, folder) -> None:
    cases = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 62
    for case in cases:
        assert tokenizer.encode(case["text"], add_special=False) == case["ids"], case["text"]
        assert (tokenizer.decode(case["ids"]) == case["text"]) == case["round"], case["text"]


def test_every_folder_is_here(shared_data):
    folders = {path.parent.name for path in (shared_data / "tokenizers").glob("*/expected.json")}
    assert folders == {*SENTENCEPIECE, *BYTE_LEVEL}
    vocabularies = {path.name for path in (shared_data / "vocab").glob("*.gguf")}
    assert vocabularies == {f"ggml-vocab-{name}.gguf" for name in VOCABULARIES}


@pytest.mark.parametrize("name", [*SENTENCEPIECE, *BYTE_LEVEL])
def test_folder(open_tokenizer, shared_data, name):
    check_cases(open_tokenizer(f"folder {name}"), shared_data / "tokenizers" / name)


@pytest.mark.parametrize(("folder", "name"), [("llama2", "llama-spm"), ("llama3", "llama-bpe"), ("qwen2", "qwen2")])
def test_folder_by_the_vocabulary_of_another_converter(open_tokenizer, shared_data, folder, name):
    check_cases(open_tokenizer(name), shared_data / "tokenizers" / folder)


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece_says_the_same(open_tokenizer, shared_data, name):
    import sentencepiece

    model = str(shared_data / "tokenizers" / name / "tokenizer.model")
    tokenizer, original = open_tokenizer(f"folder {name}"), sentencepiece.SentencePieceProcessor(model_file=model)
    chance = random.Random(9)
    for _ in range(500):
        text = random_text(chance)
        ids = original.EncodeAsIds(text)
        assert tokenizer.encode(text, add_special=False) == ids, text
        assert tokenizer.decode(ids) == original.DecodeIds(ids), text


def test_falcon_lacks_some_control_characters(open_tokenizer):
    tokenizer, chance = open_tokenizer("falcon"), random.Random(8)
    lacking = {chr(byte) for byte in range(128) if not tokenizer.encode(chr(byte), add_special=False)}
    assert lacking
    assert all(ord(letter) < 32 or letter == "\x7f" for letter in lacking)
    for _ in range(300):
        text = "".join(letter for letter in random_text(chance) if letter not in lacking)
        assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example(text="")
@example(text="\x00\x01\x7f\x85\ufdd0\ufffe\ufeff\U0010ffff")
@example(text="👩‍👩‍👧‍👦🏳️‍🌈🇩🇪 e\u0301\u0323a\u200d ﷽ \u202eabc")
@example(text="  two  \n\n\r\n\t tabs\u00a0\u3000end ")
@example(text="<s></s><|im_end|><|eot_id|><|begin_of_text|><0x0A><unk>")
def test_any_text_comes_back(open_tokenizer, name, text):
    tokenizer = open_tokenizer(name)
    if isinstance(tokenizer, SentencePieceTokenizer):
        text = text.replace("▁", "")  # its own spelling of a space
    ids = tokenizer.encode(text, add_special=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(text), skip_special=True) == text
    assert not any(map(tokenizer.is_special, ids))
    stream = tokenizer.stream(at_start=True)
    parts = [stream.push(index) for index in ids]  # half a character would show as U+FFFD
    assert "".join(parts) == text


@pytest.mark.parametrize(
    ("name", "text", "special"),
    [
        ("llama-bpe", "<|begin_of_text|>a<|eot_id|>", {128000, 128009}),
        ("qwen2", "<|im_start|>a<|im_end|>", {151644, 151645}),
        ("deepseek-llm", "<｜begin▁of▁sentence｜>a<｜end▁of▁sentence｜>", {100000, 100001}),
        ("phi-3", "<|user|>a<|end|>", {32010, 32007}),
        ("llama-spm", "<s>a</s>", {1, 2}),
    ],
)
def test_control_tokens_only_on_request(open_tokenizer, name, text, special):
    tokenizer = open_tokenizer(name)
    plain = tokenizer.encode(text, add_special=False)
    assert not special & set(plain)
    assert tokenizer.decode(plain) == text
    parsed = tokenizer.encode(text, add_special=False, parse_special=True)
    assert {parsed[0], parsed[-1]} == special
    assert parsed[1:-1] == tokenizer.encode("a", add_special=False)
    assert tokenizer.decode(parsed, skip_special=True) == "a"
    assert tokenizer.decode(parsed).replace(" ", "") == text
