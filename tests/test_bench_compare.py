"""Ratios with their intervals against published tables and simulation, and records side by side."""

import json
import math
import random
from pathlib import Path

import pytest

from bench import compare_records
from bench.ratio import Ratio, most_extreme_rank, ratio, u_counts
from bench.saved import record_of
from edgellama.errors import EdgellamaError


@pytest.mark.parametrize(
    ("m", "n", "critical"),
    [(4, 4, 0), (5, 5, 2), (5, 4, 1), (6, 6, 5), (8, 8, 13), (10, 10, 23), (12, 7, 18), (20, 20, 127)],
)
def test_ranks_follow_the_published_critical_values(m, n, critical):
    """Two-sided 5 % values of U as printed in tables of the Mann-Whitney test; U <= critical is significant."""
    assert most_extreme_rank(m, n) == critical + 1


def test_three_repetitions_are_too_few():
    assert most_extreme_rank(3, 3) == 0 and ratio([2, 4, 6], [1, 2, 3]) == Ratio(2.0)


def test_counts_are_those_of_all_orders():
    from itertools import combinations

    m, n = 3, 4
    counts = [0] * (m * n + 1)
    for places in combinations(range(m + n), m):
        counts[sum(place - index for index, place in enumerate(places))] += 1
    assert u_counts(m, n) == counts and sum(u_counts(7, 9)) == math.comb(16, 7)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    generator, hits, n_runs = random.Random(1), 0, 2000
    for _ in range(n_runs):
        base = [math.exp(generator.gauss(0, 0.1)) for _ in range(5)]
        rates = [1.5 * math.exp(generator.gauss(0, 0.1)) for _ in range(5)]
        found = ratio(rates, base)
        hits += found.low <= 1.5 <= found.high
    assert 0.95 < hits / n_runs < 0.985  # exact: 1 - 2 * 4 / 252 = 0.968


def test_one_slow_repetition_moves_the_ratio_little():
    base = [10.0, 10.1, 9.9, 10.2, 9.8]
    found = ratio([20.0, 20.2, 19.8, 20.1, 2.0], base)
    assert found.estimate == pytest.approx(2.0, rel=0.02) and found.high < 2.1


def row(test="tg128", rate=10.0, threads=2, kv="f16", samples=5, **more):
    rates = [rate * factor for factor in (1.0, 0.99, 1.01, 0.98, 1.02)[:samples]]
    return {"test": test, "n_threads": threads, "type_k": kv, "median_ts": rate, "samples_ts": rates} | more


def record(device="one", results=None, peers=(), model="m", n_parameters=1000):
    data = {
        "schema": 1,
        "device": {"cpu": {"model": device, "machine": "x86_64"}},
        "versions": {"edgellama": "1.0"},
        "model": {"name": model, "type": "Q4_0", "n_parameters": n_parameters},
        "results": [row()] if results is None else results,
        "peers": list(peers),
    }
    return record_of(data, "test")


def rows_of(*records, **options):
    return compare_records.as_rows(compare_records.compare(list(records), **options))


def test_ratio_to_the_first_record():
    first, second = rows_of(record("one"), record("two", [row(rate=25.0)]))
    assert first["ratio"] == pytest.approx(1.0, rel=0.001) and second["ratio"] == pytest.approx(2.5, rel=0.01)
    assert second["ratio_low"] < 2.5 < second["ratio_high"] and second["ratio_high"] / second["ratio_low"] < 1.08


def test_rows_match_by_test_threads_and_cache_type():
    first = record("one", [row(threads=2), row(threads=4), row("pp512", 100.0)])
    second = record("two", [row(threads=4), row(threads=8), row(threads=4, kv="q8_0")])
    matched = [(r["test"], r["n_threads"], r["type_k"]) for r in rows_of(first, second) if r["column"] == "two"]
    assert matched == [("tg128", 4, "f16"), ("tg128", 4, "q8_0"), ("tg128", 8, "f16")]
    ratios = {(r["n_threads"], r["type_k"]): r["ratio"] for r in rows_of(first, second) if r["column"] == "two"}
    assert ratios[8, "f16"] is None and ratios[4, "q8_0"] is None and ratios[4, "f16"] is not None


def test_fastest_takes_each_ones_best_number_of_threads():
    first = record("one", [row(rate=10.0, threads=2), row(rate=15.0, threads=4)])
    second = record("two", [row(rate=30.0, threads=8), row(rate=20.0, threads=4)])
    found = rows_of(first, second, fastest=True)
    assert [(r["n_threads"], r["median_ts"]) for r in found] == [(4, 15.0), (8, 30.0)]


def test_peers_are_columns_and_failed_ones_say_why():
    peers = [
        {"runtime": "llama.cpp", "version": "0.3", "results": [row(rate=5.0)]},
        {"runtime": "other", "version": "1", "results": [], "error": "it | died"},
    ]
    comparison = compare_records.compare([record(peers=peers)])
    assert [column.name for column in comparison.columns] == ["llama.cpp", "other", "edgellama"]
    text = compare_records.as_markdown(comparison)
    assert "| tg128 | 2 | 5.00 | failed |  | 10.00 | 2.00 (1.9" in text and "other failed: it" in text
    several = compare_records.compare([record(peers=peers), record("two")])
    assert [column.name for column in several.columns] == ["one", "llama.cpp on one", "other on one", "two"]
    assert json.loads(compare_records.as_json(comparison))["failed"] == [{"column": "other", "error": "it | died"}]


def test_other_models_and_unreliable_figures_are_marked():
    doubtful = record("two", [row(rate=20.0, reliable=False, warnings=["busy"])], model="another")
    text = compare_records.as_markdown(compare_records.compare([record("one"), doubtful]))
    assert "two †, t/s" in text and "20.00 *" in text and ") * |" in text and "another model" in text
    found = rows_of(record("one"), doubtful)[1]
    assert not found["same_model"] and not found["reliable"]
    plain = compare_records.as_markdown(compare_records.compare([record("one"), record("two")]))
    assert "†" not in plain and "*" not in plain


def test_the_same_name_with_other_sizes_is_another_model():
    assert not rows_of(record("one"), record("two", n_parameters=2000))[1]["same_model"]


def test_records_of_one_device_are_numbered():
    columns = compare_records.compare([record(), record()]).columns
    assert [column.name for column in columns] == ["one (1)", "one (2)"]


@pytest.mark.parametrize("samples", [None, "text", [1.0, "two"], [1.0, -1.0], [], [[1.0]], [float("nan")] * 5])
def test_damaged_repetitions_leave_a_ratio_without_interval(samples):
    found = rows_of(record("one"), record("two", [row(rate=20.0) | {"samples_ts": samples}]))[1]
    assert (found["ratio"], found["ratio_low"]) == (2.0, None)


def test_nothing_to_compare():
    with pytest.raises(EdgellamaError, match="two records"):
        compare_records.compare([record()])
    with pytest.raises(EdgellamaError, match="no results"):
        compare_records.compare([record(results=[]), record(results=[])])


def test_text_of_strangers_cannot_break_the_table():
    hostile = record("a | b\n| c", [row("tg|128")])
    lines = compare_records.as_markdown(compare_records.compare([hostile, record()])).splitlines()
    counts = {line.count("|") for line in lines if line.startswith("|")}
    assert len(counts) == 1


@pytest.mark.parametrize("form", compare_records.FORMATS)
def test_the_command(form, tmp_path: Path, capsys):
    import argparse

    paths = []
    for name in ("one", "two"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(record(name).data))
    parser = argparse.ArgumentParser()
    compare_records.add_arguments(parser)
    assert compare_records.main(parser.parse_args([*map(str, paths), "-o", form])) == 0
    printed = capsys.readouterr().out
    assert "one" in printed and "two" in printed
    if form == "json":
        assert len(json.loads(printed)["rows"]) == 2
    if form == "csv":
        assert len(printed.splitlines()) == 3
