"""`edgellama tokenize`: what it counts and reads back; its other forms are in test_cli.py."""

import json
import subprocess
import sys

import pytest
from gguf_builder import BOOL, UINT32
from vocabulary_builder import CONTROL, bpe_keys, write_vocabulary


@pytest.fixture(scope="module")
def tokenize(tmp_path_factory):
    """Run the command on a vocabulary of the 256 bytes, "ab" and a BOS token."""
    keys = bpe_keys(["ab"], ["a b"], [("<s>", CONTROL)], bos_token_id=(UINT32, 257), add_bos_token=(BOOL, 1))
    path = write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "v.gguf", **keys)

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgellama", "tokenize", str(path), *arguments]
        return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", timeout=120, check=False)

    return run


def test_count(tokenize):
    assert tokenize("-p", "abab", "--count").stdout == "3\n"
    assert tokenize("--count", "--no-special", text="abé").stdout == "3\n"
    assert tokenize("--count", "--no-special").stdout == "0\n"


def test_decode(tokenize):
    assert tokenize("--decode", "256,256,32,97").stdout == "abab a\n"
    assert tokenize("--decode", "257 195,169").stdout == "<s>é\n"
    assert json.loads(tokenize("--decode", "256,195", "--json").stdout) == {
        "ids": [256, 195],
        "pieces": ["ab", "\\xc3"],
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--decode", "1", "-p", "a"], "--decode stands in place of a text"),
        (["--decode", "a"], "'a' is no list of token ids"),
        (["--decode", "258"], "token id 258 is outside the vocabulary, which has 0 to 257"),
        (["--decode", "258", "--json"], "token id 258 is outside the vocabulary, which has 0 to 257"),
        (["--count", "--json"], "not allowed with"),
    ],
)
def test_wrong_usage(tokenize, arguments, problem):
    result = tokenize(*arguments)
    assert result.returncode != 0
    assert problem in result.stderr
    assert result.stdout == ""
