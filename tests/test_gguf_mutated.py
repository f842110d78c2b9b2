"""Damaged files, by the hundred: each opens and reads, or ends in the project's own error, soon and cheaply.

EDGELLAMA_MUTATIONS sets how many (default 500). A failing case prints its number; the generator is seeded by it alone.
"""

import os
import random
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from gguf_builder import ARRAY, F32, INT32, STRING, UINT8, gguf, key, llama_file, tensor

from edgellama.commands.inspect import describe
from edgellama.config import ModelConfig
from edgellama.errors import EdgellamaError
from edgellama.gguf import GGUFFile, open_gguf

MUTATIONS = int(os.environ.get("EDGELLAMA_MUTATIONS", "500"))
MOST_SECONDS = 2.0
MOST_BYTES = 64 << 20
STORIES = Path(__file__).parents[2] / "shared" / "data" / "trained" / "stories260K" / "f32.gguf"
EXTREMES = [0, 1, 3, 7, 8, 9, 32, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**63 - 1, 2**63, 2**64 - 1]


def sources() -> list[bytes]:
    nested = key("nested", ARRAY, (ARRAY, [(INT32, [1, 2]), (STRING, ["a", "b"]), (ARRAY, [(UINT8, [3])])]))
    small = gguf([nested, key("split.count", UINT8, 1)], [tensor("t", (8,), F32, 0)], bytes(32))
    found = [llama_file(), small]
    return [*found, STORIES.read_bytes()] if STORIES.exists() else found


def header_length(data: bytes) -> int:
    """Damage to weights cannot be seen, so most of it goes to the front, where the claims are."""
    return min(len(data), 16_000 if len(data) > 100_000 else 1500)


def flip(random_source: random.Random, data: bytearray, at: int) -> None:
    for _ in range(random_source.choice([1, 1, 2, 8])):
        data[(at + random_source.randrange(64)) % len(data)] = random_source.randrange(256)


def overwrite_number(random_source: random.Random, data: bytearray, at: int) -> None:
    code = random_source.choice(["<I", "<Q"])
    number = random_source.choice(EXTREMES) % (1 << 8 * struct.calcsize(code))
    data[at : at + struct.calcsize(code)] = struct.pack(code, number)


def truncate(random_source: random.Random, data: bytearray, at: int) -> None:
    del data[random_source.choice([at, random_source.randrange(len(data))]) :]


def duplicate(random_source: random.Random, data: bytearray, at: int) -> None:
    length = random_source.randrange(1, 200)
    data[at:at] = data[at : at + length] * random_source.choice([1, 2, 50])


def splice(random_source: random.Random, data: bytearray, at: int) -> None:
    origin = random_source.randrange(header_length(data))
    data[at : at + random_source.randrange(1, 100)] = data[origin : origin + random_source.randrange(1, 100)]


def remove(random_source: random.Random, data: bytearray, at: int) -> None:
    del data[at : at + random_source.randrange(1, 64)]


DAMAGES = [flip, flip, overwrite_number, overwrite_number, overwrite_number, truncate, duplicate, splice, remove]


def damaged(number: int, originals: list[bytes]) -> bytes:
    random_source = random.Random(number)
    data = bytearray(random_source.choice(originals))
    for _ in range(random_source.choice([1, 1, 1, 2, 4])):
        if data:
            random_source.choice(DAMAGES)(random_source, data, random_source.randrange(header_length(data)))
    return bytes(data)


def read_everything(file: GGUFFile) -> None:
    for name in file.metadata:
        assert isinstance(file.metadata.type_of(name), str)
        assert file.metadata[name] is not None
    for found in file.tensors.values():
        assert found.data.size == found.n_bytes
        assert int(found.data[:: 4096 if found.n_bytes > 4096 else 1].sum()) >= 0
    describe(file)
    ModelConfig.from_gguf(file)


def opens_and_reads(path: Path) -> bool:
    """Whether the file was read to its end; False when it was refused in the project's own way."""
    try:
        with open_gguf(path) as file:
            read_everything(file)
    except EdgellamaError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return False
    return True


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_undamaged_sources_read(tmp_path):
    for data in sources()[::2]:
        path = tmp_path / "m.gguf"
        path.write_bytes(data)
        assert opens_and_reads(path)


def test_damaged_files(tmp_path, traced):
    originals = sources()
    path = tmp_path / "m.gguf"
    outcomes = {True: 0, False: 0}
    for number in range(MUTATIONS):
        path.write_bytes(damaged(number, originals))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        began = time.perf_counter()
        try:
            outcomes[opens_and_reads(path)] += 1
        except Exception as error:
            raise AssertionError(f"mutation {number} was neither read nor refused") from error
        assert time.perf_counter() - began < MOST_SECONDS, f"mutation {number} took too long"
        assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES, f"mutation {number} took too much memory"
    assert min(outcomes.values()) > MUTATIONS // 50, f"the damage is too gentle or too rough: {outcomes}"
