"""What is offered where a model does not fit, on a made-up estimate; and that nothing is taken before that is said."""

from dataclasses import replace

import pytest

import edgellama
from edgellama import memory_needs, system
from edgellama.errors import EdgellamaError
from edgellama.memory_needs import LoadOptions, MemoryNeeds, Room
from edgellama.memory_offers import MemoryShortageError, find_offers


@pytest.mark.parametrize("text", ["much", "0", "-1G", "1.5G", "3T", "G", "²G"])
def test_an_amount_that_is_none(synthetic_model, monkeypatch, text):
    monkeypatch.setenv("EDGELLAMA_MEMORY", text)
    with pytest.raises(EdgellamaError, match=r"EDGELLAMA_MEMORY=.* is no amount"):
        edgellama.load(synthetic_model("q4_0"))


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("2G", 2 << 30), ("1500m", 1500 << 20), ("64K", 65536), ("12345", 12345)]
)
def test_amounts(monkeypatch, text, n_bytes):
    monkeypatch.setenv("EDGELLAMA_MEMORY", text)
    assert memory_needs.available_bytes() == n_bytes


def estimate(options: LoadOptions) -> MemoryNeeds:
    """A model with 1000 MB of weights and a cache of a MB for four tokens, half of that in q8_0."""
    per_token = {"f16": 250_000, "q8_0": 125_000}[options.kv_type]
    weights = 1_000_000_000 if options.repack else 0
    return MemoryNeeds(weights, per_token * options.context, 0, 100_000_000, 1_000_000_000 - weights, 1)


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [
        (1800, [{"context": 2560}, {"kv_type": "q8_0"}, {"repack": False}]),
        (1300, [{"context": 768}, {"repack": False}]),
        (1150, [{"repack": False}]),
        (900, [{"repack": False, "kv_type": "q8_0"}]),
        (500, [{"repack": False, "context": 1536}]),
        (145, [{"repack": False, "kv_type": "q8_0", "context": 256}]),
        (120, []),
    ],
)
def test_the_mildest_changes_that_are_enough(megabytes, expected):
    options, room = LoadOptions(4096), Room("of memory are available", megabytes * 1_000_000)
    found = find_offers(options, estimate, room)
    assert [offer.arguments() for offer in found] == expected
    assert all(estimate(offer.options).total_bytes <= room.n_bytes for offer in found)


def test_a_context_that_is_offered_is_the_longest_of_whole_pages():
    room = Room("of memory are available", 1_800_000_000)
    offer = find_offers(LoadOptions(4096), estimate, room)[0]
    assert not room.fits(estimate(replace(offer.options, context=offer.options.context + 256)))


def test_what_is_saved_already_is_not_offered():
    found = find_offers(LoadOptions(4096, "q8_0", False), estimate, Room("of memory are available", 300_000_000))
    assert [offer.arguments() for offer in found] == [{"context": 1536}]


def test_nothing_helps(synthetic_model, monkeypatch):
    monkeypatch.setenv("EDGELLAMA_MEMORY", "50M")
    with pytest.raises(MemoryShortageError, match="take a smaller model") as caught:
        edgellama.load(synthetic_model("q4_0"))
    assert caught.value.offers == []


def test_memory_that_is_refused_after_all_is_a_sentence(synthetic_model, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(system, "allocate", refuse)
    with pytest.raises(EdgellamaError, match="no memory left"):
        edgellama.load(synthetic_model("q4_0"))


def test_nothing_is_packed_before_the_check(synthetic_model, monkeypatch):
    monkeypatch.setenv("EDGELLAMA_MEMORY", "50M")
    monkeypatch.setattr("edgellama.compiler.load_kernels", lambda *_: pytest.fail("kernels were loaded"))
    monkeypatch.setattr(system, "allocate", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(MemoryShortageError):
        edgellama.load(synthetic_model("q4_0"))
