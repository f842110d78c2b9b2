"""The tables of measured figures: made of records alone, also of none, and of texts that would break a table."""

import json

import bench_records

from bench.performance_tables import NO_RECORDS, full_tables, saved_records, short_table
from bench.saved import record_of


def saved(data):
    return record_of(data, "record")


def test_without_records_tables_say_so():
    assert short_table([]) == full_tables([]) == NO_RECORDS


def test_short_table():
    lines = short_table([saved(bench_records.with_peer()), saved(bench_records.small())]).splitlines()
    assert lines[0] == "| Device | Model | Prefill, tokens/s | Decode, tokens/s | Against | First token |"
    assert lines[2:] == [
        "| Radxa ROCK 5B | TinyLlama 1.1B Q4_0 | 88.0 (pp512, 8 threads, 63% of the int8 limit) "
        "| 19.2 (tg128, 4 threads, 86% of the stream limit) | llama.cpp 0.3.36: 2.30 x pp512, 1.21 x tg128 | 0.91 s |",
        "| AMD EPYC | TinyLlama 1.1B Q4_0 | 310 (pp512, 2 threads, 65% of the int8 limit) "
        "| 94.0 (tg128, 2 threads, 85% of the stream limit) |  |  |",
    ]


def test_columns_without_values_are_left_out():
    assert short_table([saved(bench_records.small())]).startswith(
        "| Device | Model | Prefill, tokens/s | Decode, tokens/s |\n"
    )


def test_a_peer_that_failed_is_said():
    data = bench_records.small() | {"peers": [{"runtime": "llama.cpp", "version": "", "results": []}]}
    assert "llama.cpp: not measured" in short_table([saved(data)])


def test_full_tables_have_every_result_and_the_command():
    text = full_tables([saved(bench_records.with_peer())])
    assert text.startswith("### TinyLlama 1.1B Q4_0 on Radxa ROCK 5B\n\nMeasured 2026-11-28:\n\n    edgellama bench ")
    assert text.count("| edgellama | ") == 12 and text.count("| llama.cpp | ") == 2
    assert "| edgellama | tg128 | 2 | 14.8 ? | 0.18 | 18.6 (stream) | 80% |  |" in text
    assert "| edgellama | tg128 | 4 | 19.2 | 0.23 | 22.4 (stream) | 86% | 0.310 |" in text


def test_texts_cannot_break_a_table():
    data = bench_records.small()
    data["device"]["cpu"]["model"] = "a | b\n# c <script>"
    line = short_table([saved(data)]).splitlines()[2]
    assert line.startswith("| a \\| b # c &lt;script> |")


def test_records_are_read_from_a_folder_by_name(tmp_path):
    (tmp_path / "README.md").write_text("not a record")
    (tmp_path / "b.json").write_text(json.dumps(bench_records.small()))
    (tmp_path / "a.json").write_text(json.dumps([bench_records.record()]))
    assert [record.device_name for record in saved_records(tmp_path)] == ["Radxa ROCK 5B", "AMD EPYC"]


def test_doubtful_figures_are_marked_in_the_short_table():
    data = bench_records.small()
    data["results"][1] |= {"reliable": False, "warnings": ["repetitions lie far apart"]}
    line = short_table([saved(data)]).splitlines()[2]
    assert "| 94.0 ? (tg128" in line and "| 310 (pp512" in line


def test_own_records_are_fit_to_be_shown():
    """What the machine's memory did while decoding is its own affair, and marked; a busy machine is not."""
    for record in saved_records():
        assert record.results and record.at("command") and record.text_at("time")
        assert all(row.reliable or row.warnings for row in record.results)
        assert not any("busy" in warning for row in record.results for warning in row.warnings), "measure again"
