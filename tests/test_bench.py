"""The measuring protocol with a made-up engine in a real child process, and the arithmetic of each measurement."""

import sys

import pytest

from bench.model_cost import ModelCost
from bench.peer_llamacpp import TunedPeer
from bench.worker import Server, Worker, WorkerError

ENGINE = """
import sys, time
from bench.worker import serve

class Engine:
    n_vocabulary = 10
    def configure(self, delay=0.0): self.delay = delay
    def prefill(self, ids): time.sleep(self.delay * len(ids))
    def decode(self, token_id): assert 0 <= token_id < 10
    def begin_batch(self): pass
    def decode_batch(self, ids): assert len(ids) == 4
    def truncate(self, n_tokens): print("noise on stdout")
    def select(self, depth): return 0
    def info(self): return {"runtime": "made up"}

def make():
    print("noise before the first answer")
    if "die" in sys.argv: sys.exit("no such model")
    engine = Engine(); engine.configure(); return engine

serve(make)
"""


@pytest.fixture
def engine_module(tmp_path, monkeypatch):
    (tmp_path / "made_up_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return "made_up_engine"


def test_worker_answers_and_keeps_its_stdout_clean(engine_module):
    with Worker(engine_module, []) as worker:
        assert worker.ask("info")["runtime"] == "made up"
        answer = worker.ask("prefill", n=7)
        assert answer["n"] == 7 and answer["tokens_per_second"] == pytest.approx(7 / answer["seconds"])
        assert worker.rate("decode", n=3, depth=5) > 0
        assert worker.ask("batch", n=2, sequences=4)["n"] == 8
        worker.ask("configure", settings={"delay": 0.01})
        assert worker.rate("prefill", n=5) < 100
        assert 0 < worker.idle_cpu_seconds < 0.5
        process = worker.process
    assert process.returncode == 0


def test_worker_errors_are_sentences_and_do_not_end_it(engine_module):
    with Worker(engine_module, []) as worker:
        with pytest.raises(WorkerError, match="unknown op"):
            worker.ask("nonsense")
        with pytest.raises(WorkerError, match="TypeError"):
            worker.ask("configure", settings={"unknown": 1})
        assert worker.ask("info")["peak_rss_bytes"] > 0


def test_worker_that_dies_says_why(engine_module):
    with pytest.raises(WorkerError, match="no such model"):
        Worker(engine_module, ["die"])


class Recorder:
    """An engine that writes down what it is asked."""

    n_vocabulary = 10

    def __init__(self):
        self.calls = []

    def configure(self, **settings):
        self.calls.append(("configure", settings))

    def prefill(self, ids):
        self.calls.append(("prefill", len(ids)))

    def decode(self, token_id):
        self.calls.append(("decode", 1))

    def truncate(self, n_tokens):
        self.calls.append(("truncate", n_tokens))

    def select(self, depth):
        return 1 if depth == 100 else 0


def test_deep_cache_is_filled_once_and_cut_back():
    engine = Recorder()
    server = Server(engine)
    server.decode(2, depth=100)
    server.decode(1, depth=100)
    assert engine.calls == [("prefill", 100), ("decode", 1), ("decode", 1), ("truncate", 100), ("decode", 1)]
    engine.calls.clear()
    server.prefill(4)
    server.decode(1, depth=10)
    assert engine.calls == [("truncate", 0), ("prefill", 4), ("prefill", 6), ("decode", 1)]
    engine.calls.clear()
    server.decode(1, depth=100)
    assert engine.calls == [("truncate", 100), ("decode", 1)], "the deep cache lies in a sequence of its own"


class MadeUpWorker:
    """Rates by settings; notes which are given up."""

    def __init__(self, rates):
        self.rates, self.settings, self.released = rates, {}, []

    def ask(self, op, **request):
        if op == "configure":
            self.settings = request["settings"]
        else:
            self.released.append((self.settings["flash_attention"], self.settings["micro_batch"]))

    def rate(self, op, **request):
        return self.rates[self.settings["flash_attention"], self.settings["micro_batch"]]


def test_peer_is_tuned_to_its_fastest_settings():
    worker = MadeUpWorker({(True, 512): 1.0, (True, 128): 3.0, (False, 512): 2.0, (False, 128): 5.0})
    peer = TunedPeer(worker)
    assert peer.tune("prefill", n=8) == {"flash_attention": False, "micro_batch": 128} == worker.settings
    assert sorted(worker.released) == [(False, 512), (True, 128), (True, 512)]  # the winner's cache is kept
    worker.rates[True, 128] = 9.0
    assert peer.tune("decode", n=8)["flash_attention"] is True


def test_cost_of_a_token():
    cost = ModelCost(weight_bytes=1000, kv_values_per_position=8, operations_per_token=50, output_operations=20)
    assert cost.decode_bytes(10) == 1000 + 10 * 8 * 2
    assert cost.decode_bytes(32, "q8_0") == 1000 + 32 * 8 * 34 / 32


def test_cost_of_a_model_counts_what_decode_reads(synthetic_model):
    from bench.model_cost import cost_of

    cost = cost_of(synthetic_model("q8_0"))
    layer_values = 256 * 256 * 2 + 256 * 64 * 2 + 256 * 512 * 3
    values = 2 * layer_values + 512 * 256  # two layers and the output; the embedding is one row
    assert cost.weight_bytes == values * 34 // 32 + 2 * 2 * 256 * 4
    assert cost.operations_per_token == 2 * 2 * layer_values
    assert cost.kv_values_per_position == 2 * 2 * 64


def test_our_worker_decodes_one_sequence_and_batches(synthetic_model):
    from bench import worker_edgellama

    with worker_edgellama.start(synthetic_model("q8_0"), 1, 64, n_sequences=3) as worker:
        assert worker.ask("prefill", n=5)["n"] == 5
        assert worker.ask("decode", n=2, depth=7)["n"] == 2
        assert worker.ask("batch", n=2, sequences=3)["n"] == 6
        with pytest.raises(WorkerError, match="started for 3 sequences"):
            worker.ask("batch", n=1, sequences=4)
        assert worker.ask("info")["runtime"] == "edgellama"


def test_disturbed_runs_start_and_end_their_spinners():
    from bench import disturbed

    def counted(n_busy):
        with disturbed.busy_processes(n_busy) as spinners:
            assert len(spinners) == n_busy and all(spinner.poll() is None for spinner in spinners)
        return all(spinner.returncode is not None for spinner in spinners)

    assert counted(2) and counted(0)
    row = disturbed.summary([(10.0, 5.0), (20.0, 8.0), (10.0, 6.0)])
    assert (row["alone"], row["disturbed"]) == (10.0, 6.0)
    assert (row["ratio"], row["ratio_lowest"], row["ratio_highest"]) == (0.5, 0.4, 0.6)


def test_memory_of_a_small_model(synthetic_model):
    from bench import memory

    assert memory.status_bytes("Name:\tx\nRssAnon:\t   12 kB\nRssFile:\t3 kB\n") == {"anonymous": 12288, "file": 3072}
    path = synthetic_model("q8_0")
    row = memory.measure(path, {"threads": 1, "context": 64, "kv_type": "f16", "repack": True}, 2)
    assert row["kv_bytes"] == 2 * 2 * 64 * 64 * 2
    assert row["expected_bytes"] == path.stat().st_size + row["kv_bytes"] + memory.ALLOWANCE_BYTES
    assert row["peak_rss_bytes"] > path.stat().st_size and row["ratio"] < 1.5


def test_a_process_that_fails_or_prints_nothing_is_an_error():
    from bench import startup

    assert startup.seconds_of([sys.executable, "-S", "-c", ""]) > 0
    assert startup.seconds_to_first_output([sys.executable, "-S", "-c", "print(1)"]) > 0
    with pytest.raises(RuntimeError, match="the reason"):
        startup.seconds_of([sys.executable, "-c", "import sys; sys.exit('the reason')"])
    with pytest.raises(RuntimeError, match="printed nothing"):
        startup.seconds_to_first_output([sys.executable, "-S", "-c", ""])


def test_phases_of_a_start_follow_each_other(synthetic_model):
    from bench import startup

    result = startup.phases(synthetic_model("q8_0"))
    assert list(result) == ["interpreter", "imports", "kernels", "model", "tokenizer", "first token"]
    assert all(seconds >= 0 for seconds in result.values())
