"""The peer of a benchmark: tuned, measured in turns, and allowed to fail in every way without failing the run."""

import os
import sys
from pathlib import Path

import pytest

from bench import compare, compare_records, run, versus
from bench.model_cost import ModelCost
from bench.saved import record_of
from bench.trust import Sample, Samples
from bench.variants import Variant
from bench.versus import Rival
from bench.worker import Worker

PEER = """
import os, sys, time
from bench.worker import serve
mode = sys.argv[1]

class Engine:
    n_vocabulary = 10
    n_measured = 0
    def configure(self, **settings): self.settings = settings
    def select(self, depth): return depth
    def release(self): pass
    def prefill(self, ids):
        if mode == "refuse": raise RuntimeError("no room for a prompt")
    def decode(self, token_id):
        self.n_measured += 1
        if mode == "die later" and self.n_measured > 20:
            print("terminate called", file=sys.stderr, flush=True)
            os._exit(7)
        if mode == "killed" and self.n_measured > 20: os.kill(os.getpid(), 9)
        if mode == "hang later" and self.n_measured > 20: time.sleep(60)
        time.sleep(0.001 if self.settings.get("flash_attention") else 0.004)
    def truncate(self, n_tokens): pass
    def info(self): return {"version": "1.2", "features": "many"}

if mode == "die": sys.exit("no module named llama_cpp")
if mode == "hang": time.sleep(60)
if mode == "garbage":
    print("hello", flush=True)
    sys.stdin.read()
if mode == "other answers":
    print("{}", flush=True)
    for line in sys.stdin: print("{}", flush=True)
serve(Engine)
"""
TG, PP = Variant(n_gen=4), Variant(n_prompt=8)


@pytest.fixture
def start_peer(tmp_path, monkeypatch):
    (tmp_path / "made_up_peer.py").write_text(PEER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    return lambda mode: lambda: Worker("made_up_peer", [mode], timeout_seconds=3)


def measured(rival, variants=(TG, PP), n_rounds=5):
    """A run of the rival alone, as the rounds of a benchmark drive it."""
    rival.open()
    for variant in variants:
        rival.warm_up(variant)
    for _ in range(n_rounds):
        for variant in variants:
            rival.measure(variant, lambda worker, v=variant: Sample(worker.rate(v.op, **v.request), 1e9, 1.0))
    rival.close()
    return rival.record(lambda variant, samples: {"test": variant.name, "samples_ts": samples.rates})


def test_a_peer_is_measured_with_its_fastest_settings(start_peer):
    found = measured(Rival(start_peer("work")))
    assert (found["runtime"], found["version"], found["error"]) == ("llama.cpp", "1.2", None)
    decode, prefill = found["results"]
    assert [decode["test"], prefill["test"]] == ["tg4", "pp8"] and len(decode["samples_ts"]) == 5
    assert decode["settings"]["flash_attention"] and decode["settings"]["n_threads"] == 1
    assert all(100 < rate < 1000 for rate in decode["samples_ts"])  # of the slower settings: below 250


def test_batches_are_left_out(start_peer):
    found = measured(Rival(start_peer("work")), [TG, Variant(n_gen=4, n_sequences=4)])
    assert [row["test"] for row in found["results"]] == ["tg4"] and found["error"] is None


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("die", "start: worker ended with code 1: no module named llama_cpp"),
        ("hang", "start: worker gave no answer for 3 s and was killed"),
        ("garbage", "start: worker printed 'hello', which is no answer"),
        ("other answers", "tg4: its answer is not what was asked for"),
    ],
)
def test_a_peer_that_fails_at_once_says_why(start_peer, mode, reason):
    found = measured(Rival(start_peer(mode)))
    assert found["results"] == [] and found["error"] == reason


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("die later", "code 7: terminate called"), ("killed", "code -9"), ("hang later", "no answer for 3 s")],
)
def test_what_was_measured_before_a_failure_is_kept(start_peer, mode, reason):
    found = measured(Rival(start_peer(mode)), [TG])
    assert reason in found["error"] and 0 < len(found["results"][0]["samples_ts"]) < 5


def test_a_refusal_costs_one_variant_only(start_peer):
    found = measured(Rival(start_peer("refuse")))
    assert found["error"] == "pp8: RuntimeError: no room for a prompt"
    assert [row["test"] for row in found["results"]] == ["tg4"] and len(found["results"][0]["samples_ts"]) == 5


@pytest.mark.parametrize("python", ["/no/such/python", sys.executable])
def test_a_missing_interpreter_or_model(tmp_path, python):
    found = measured(versus.llama_cpp(tmp_path / "none.gguf", [TG], python, 60))
    assert found["results"] == [] and found["error"].startswith("start: ")


@pytest.mark.parametrize("mode", ["work", "killed"])
def test_a_run_with_a_peer(start_peer, synthetic_model, mode):
    path = synthetic_model("q4_0")
    with run.start(path, [TG], run.Settings(repetitions=4), rival=Rival(start_peer(mode))) as bench:
        bench.warm_up(None)
        bench.rounds(None)
        record = {"schema": 1, "results": bench.rows(), "peers": bench.peers()}
    assert len(record["results"][0]["samples_ts"]) >= 4
    comparison = compare_records.compare([record_of(record, "here")])
    text = versus.comparison_of(record)
    if mode == "work":
        assert comparison.ratio_to_first(comparison.columns[1], comparison.keys[0]).low is not None
        assert "| test | threads | llama.cpp, t/s | edgellama, t/s | ratio (95 %) |" in text
    else:
        assert "llama.cpp failed: tg4: worker ended with code -9" in text


def test_turns_alternate_and_limits_lie_between_them():
    order = []

    class Side:
        def __init__(self, name):
            self.name = name

        def ask(self, op, **request):
            order.append(self.name)
            return {"tokens_per_second": 10.0, "seconds": 1.0, "cpu_seconds": 1.0}

    class Sampler:
        def sample(self, limit):
            order.append(limit)
            return 100.0

    class Other:
        def measure(self, variant, sample):
            assert sample(Side("peer")).limit_ts == 20.0

    cost = ModelCost(weight_bytes=4, kv_values_per_position=0, operations_per_token=5, output_operations=0)
    fixed = (run.Settings(2), cost, {(1, "f16"): Side("ours")}, {1: Sampler()}, {})
    bench = run.Bench(Path("m"), [PP], *fixed, Other(), {PP: Samples()})
    bench.rounds(None)
    ours, peer = ["int8", "ours", "int8"], ["int8", "peer", "int8"]
    assert order == [*ours, *peer, *peer, *ours]


def test_the_projects_own_comparison_is_a_run_with_a_peer():
    import argparse

    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    line = compare.command_line(parser.parse_args(["m.gguf", "--depth", "0", "8192", "--json", "out.json"]))
    assert line[:4] == ["bench", "m.gguf", "--vs", "llama.cpp"] and line[-2:] == ["--save", "out.json"]
    assert line[line.index("--n-depth") + 1] == "0,8192" and line[line.index("--sequences") + 1] == "1,4"
