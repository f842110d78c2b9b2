"""A benchmark run with made-up workers and limits: what is measured, believed and written."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from bench import output, run
from bench.model_cost import ModelCost
from bench.record import command_of, row_of
from bench.run import Bench, Settings
from bench.saved import record_of
from bench.trust import Sample, Samples, deserve_more
from bench.variants import Variant, variants_of
from edgellama.errors import EdgellamaError

COST = ModelCost(weight_bytes=1000, kv_values_per_position=8, operations_per_token=50, output_operations=20)


@pytest.mark.parametrize(
    ("variant", "name", "request_"),
    [
        (Variant(n_prompt=512), "pp512", {"n": 512, "depth": 0}),
        (Variant(n_gen=128, n_depth=4096), "tg128 @ d4096", {"n": 128, "depth": 4096}),
        (Variant(n_gen=16, n_sequences=4), "tg16 x4", {"n": 16, "sequences": 4}),
    ],
)
def test_names_and_requests(variant, name, request_):
    assert (variant.name, variant.request) == (name, request_)


def test_bytes_of_a_token():
    """Weights are shared by the tokens of a step; the cache is each token's own, and grows while it is read."""
    assert Variant(n_gen=3, n_depth=9).bytes_per_token(COST) == 1000 + (9 + 1) * 8 * 2
    assert Variant(n_gen=3, n_sequences=4).bytes_per_token(COST) == 1000 / 4 + 1 * 8 * 2
    assert Variant(n_prompt=5).bytes_per_token(COST) == (1000 + 2 * 8 * 2) / 5
    assert Variant(n_gen=1, n_depth=32, kv_type="q8_0").bytes_per_token(COST) == 1000 + 32 * 8 * 34 / 32
    assert Variant(n_prompt=4).operations_per_token(COST) == (4 * 50 + 20) / 4


def test_all_combinations_once():
    names = [v.name for v in variants_of([512, 0], [16], [0, 64], [1, 4], [2], ["f16"])]
    assert names == ["pp512", "tg16", "tg16 x4", "pp512 @ d64", "tg16 @ d64"]
    threads = [v.n_threads for v in variants_of([8], [], [0], [1], [1, 2, 2], ["f16", "q8_0"])]
    assert threads == [1, 2, 1, 2]


def samples(*rates: float, limit: float = 100.0, share: float = 1.0) -> Samples:
    return Samples([Sample(rate, limit, share) for rate in rates])


def test_a_steady_figure_is_reliable():
    steady = samples(50, 51, 52)
    assert steady.median_ts == 51 and steady.of_limit == 0.51 and steady.warnings() == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (samples(50, 51, 60), "repetitions lie far apart: 50.0 to 60.0"),
        (samples(50, 51, share=0.6), "the machine was busy: the threads had their cores for 60%"),
        (samples(106, 107), "106% of the measured limit, which cannot be"),
        (Samples(samples(50).taken, ["the CPU throttled itself 2 times"] * 2), "the CPU throttled itself 2 times"),
    ],
)
def test_what_casts_doubt(found, sentence):
    (warning,) = found.warnings()
    assert warning.startswith(sentence)


def test_a_share_is_that_of_its_own_moment():
    """A limit that moves by half between repetitions leaves the share what it is."""
    moving = Samples([Sample(90, 100, 1.0), Sample(45, 50, 1.0), Sample(90, 100, 1.0)])
    assert moving.of_limit == 0.9


def test_doubtful_variants_are_measured_again_within_bounds():
    steady, wide, above = samples(50, 51), samples(50, 70), samples(120, 121)
    assert deserve_more([steady, wide, above], most=3) == [wide, above]
    assert deserve_more([steady, wide, above], most=2) == []


class MadeUpWorker:
    """Rates in turn; `cpu` is how much of the threads' time they had."""

    def __init__(self, rates, cpu=1.0):
        self.rates, self.cpu, self.asked = iter(rates), cpu, []

    def ask(self, op, **request):
        self.asked.append((op, request))
        rate = next(self.rates)
        seconds = request["n"] / rate
        return {"n": request["n"], "seconds": seconds, "tokens_per_second": rate, "cpu_seconds": 2 * seconds * self.cpu}


class MadeUpLimit:
    """A limit that answers in operations or bytes per second."""

    def __init__(self, rate):
        self.rate, self.samples = rate, {"stream": [], "int8": [], "float": []}

    def sample(self, limit):
        self.samples[limit].append(self.rate)
        return self.rate

    def median(self, limit):
        return self.rate


def bench_of(variant: Variant, rates, limit_ts: float, repetitions: int = 3, cached: bool = False, cpu=1.0) -> Bench:
    per_token = variant.operations_per_token(COST) if variant.n_prompt else variant.bytes_per_token(COST)
    limit = MadeUpLimit(limit_ts * per_token)
    bench = Bench(
        None, [variant], Settings(repetitions), COST, {(2, "f16"): MadeUpWorker([1.0, *rates], cpu)}, {2: limit},
        {2: limit} if cached else {},
    )  # fmt: skip
    bench.warm_up(None)
    bench.rounds(None)
    return bench


DECODE, PREFILL = Variant(n_gen=8, n_threads=2), Variant(n_prompt=8, n_threads=2)


def test_the_warm_up_does_not_count():
    bench = bench_of(DECODE, [50, 51, 52], limit_ts=100)
    (row,) = bench.rows()
    assert row["samples_ts"] == [50, 51, 52] and row["limit"] == "stream" and row["reliable"]
    assert row["of_limit"] == pytest.approx(0.51) and row["bytes_per_token"] == DECODE.bytes_per_token(COST)


def test_a_wide_spread_is_measured_up_to_twice_as_often():
    (row,) = bench_of(DECODE, [50, 90, 51, 52, 51, 50], limit_ts=100).rows()
    assert row["samples_ts"] == [50, 90, 51, 52, 51, 50] and not row["reliable"]
    assert "far apart" in row["warnings"][0]


def test_above_the_limit_is_measured_again_and_then_not_believed():
    (row,) = bench_of(PREFILL, [120, 121, 122, 120, 121, 122], limit_ts=100).rows()
    assert len(row["samples_ts"]) == 6 and not row["reliable"] and row["limit"] == "int8"
    assert "cannot be" in row["warnings"][0]


def test_weights_that_fit_in_the_cache_are_held_against_it():
    bench = bench_of(DECODE, [50, 51, 52], limit_ts=100, cached=True)
    assert bench.rows()[0]["limit"] == "cache"
    assert bench.limits_record()["cache_bytes_per_second"]["2"] == pytest.approx(100 * DECODE.bytes_per_token(COST))


def test_a_busy_machine_is_said():
    (row,) = bench_of(DECODE, [50, 51, 52], limit_ts=100, cpu=0.5).rows()
    assert row["warnings"] == ["the machine was busy: the threads had their cores for 50% of the time"]


def test_copies_that_do_not_fit_are_refused_before_they_are_loaded(synthetic_model, monkeypatch):
    path = synthetic_model("q4_0")
    loads = [run._load_options([replace(DECODE, n_threads=threads)], run.Settings()) for threads in (1, 2, 3)]
    monkeypatch.setenv("EDGELLAMA_MEMORY", "300M")  # one takes 110 MB
    run._check_memory(path, loads[:2])
    with pytest.raises(EdgellamaError, match="3 thread counts or cache types"):
        run._check_memory(path, loads)


def test_a_model_that_does_not_fit_is_refused_with_options_of_the_command(synthetic_model, monkeypatch):
    path = synthetic_model("q4_0")
    options = run._load_options([Variant(n_gen=8, n_depth=10_000, n_threads=1, kv_type="f32")], run.Settings())
    monkeypatch.setenv("EDGELLAMA_MEMORY", "118M")
    with pytest.raises(EdgellamaError, match="--kv-type q8_0") as caught:
        run._check_memory(path, [options])
    assert "--context" not in str(caught.value)


def test_a_failed_process_is_told_by_its_last_line():
    words = "Traceback (most recent call last):\n  File\nedgellama.errors.GGUFError: x is no GGUF file\n"
    assert run.last_line(f"worker ended with code 1: {words}") == "x is no GGUF file"


def test_the_command_holds_no_folders():
    assert command_of(["/home/ann/m.gguf", "-p", "512"]) == ["edgellama", "bench", "m.gguf", "-p", "512"]


def made_record() -> dict:
    limits = bench_of(DECODE, [50, 51, 52], limit_ts=100).limits_record()
    rows = [
        row_of(DECODE, samples(50, 51, 52), "stream", 1056.0),
        row_of(PREFILL, samples(50, 90, limit=200), "int8", 130.0),
    ]
    return {
        "schema": 1, "command": ["edgellama", "bench", "m.gguf"], "time": "2026-01-01T00:00:00Z",
        "versions": {"edgellama": "0.1.0"},
        "device": {"cpu": {"model": "Some CPU", "isa": "avx2", "physical_cores": 2}},
        "model": {"name": "tiny", "type": "Q8_0", "architecture": "llama", "n_parameters": 10**9, "file_bytes": 2**30},
        "settings": {"repetitions": 3}, "limits": limits, "results": rows, "peers": [], "sustain": None,
        "start": {"load_seconds": 0.5, "first_token_seconds": 0.7, "peak_memory_bytes": 10**8,
                  "kernel_compile_seconds": 0.0, "kernels_cached": True},
    }  # fmt: skip


def test_markdown():
    text = re.sub(" +", " ", output.as_markdown(made_record()))
    assert "| tiny Q8_0 | 1.00 GiB | 1.00 B | 2 | tg8 | 51.00 ± 1.00 | 51% of memory |" in text
    assert "* pp8, 2 threads: repetitions lie far apart: 50.0 to 90.0 tokens/s" in text
    assert "pp8 *" in text and "Limits with 2 threads: memory" in text


def test_small_models_have_a_size_too():
    record = made_record()
    record["model"] |= {"file_bytes": 5 * 2**20, "n_parameters": 2_600_000}
    assert "| 5.00 MiB | 2.60 M |" in re.sub(" +", " ", output.as_markdown(record))


def test_csv():
    rows = list(csv.DictReader(io.StringIO(output.as_csv(made_record()))))
    assert [row["test"] for row in rows] == ["tg8", "pp8"] and rows[0]["model_n_params"] == "1000000000"
    assert float(rows[0]["avg_ts"]) == 51 and rows[1]["reliable"] == "False" and "far apart" in rows[1]["warnings"]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_is_what_the_reader_takes(form):
    text = output.text_of(made_record(), form)
    assert form == "json" or "\n" not in text
    saved = record_of(json.loads(text), "here")
    assert [(row.test, row.median_ts, row.reliable) for row in saved.results] == [("tg8", 51, True), ("pp8", 70, False)]
