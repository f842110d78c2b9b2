"""The tables of measured figures in README.md and docs/performance.md, made from the records in bench/results/."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .chart import number_text
from .fields import Result
from .saved import SavedPeer, SavedRecord, fastest, read_records
from .untrusted import number

RESULTS = Path(__file__).resolve().parent / "results"
NO_RECORDS = "No records yet: `edgellama bench MODEL.gguf -o json` makes one.\n"


def saved_records(folder: Path = RESULTS) -> list[SavedRecord]:
    return [record for path in sorted(folder.glob("*.json")) for record in read_records(path)]


def short_table(records: list[SavedRecord]) -> str:
    """A row for each record: the fastest prefill and decode, their share of the limit and of the peer's speed."""
    if not records:
        return NO_RECORDS
    header = ("Device", "Model", "Prefill, tokens/s", "Decode, tokens/s", "Against", "First token")
    return table(header, map(_short_row, records))


def _short_row(record: SavedRecord) -> tuple[str, ...]:
    prefill, decode = record.prefill, record.decode
    seconds = record.number_at("start", "first_token_seconds")
    against = [_against(peer, [row for row in (prefill, decode) if row]) for peer in record.peers]
    first_token = "" if seconds is None else f"{number_text(seconds, digits=2)} s"
    return record.device_name, record.model_name, _rate(prefill), _rate(decode), ", ".join(against), first_token


def _rate(row: Result | None) -> str:
    if row is None:
        return ""
    facts = [row.test, f"{row.n_threads} thread{'s' * (row.n_threads > 1)}"]
    facts += [f"{row.of_limit:.0%} of the {row.limit} limit"] if row.of_limit else []
    return f"{_median(row)} ({', '.join(facts)})"


def _median(row: Result) -> str:
    """With a question mark where the record calls it unreliable."""
    return number_text(row.median_ts) + ("" if row.reliable else " ?")


def _against(peer: SavedPeer, rows: Iterable[Result]) -> str:
    """llama.cpp 0.3.36: 2.43 x pp512, 1.71 x tg128."""
    ratios = []
    for row in rows:
        other = fastest(result for result in peer.results if result.test == row.test)
        if other:
            ratios.append(f"{row.median_ts / other.median_ts:.2f} x {row.test}")
    return f"{peer.runtime} {peer.version}: {', '.join(ratios)}" if ratios else f"{peer.runtime}: not measured"


def full_tables(records: list[SavedRecord]) -> str:
    """A section for each record: its command and all its results."""
    return "\n".join(map(_section, records)) if records else NO_RECORDS


def _section(record: SavedRecord) -> str:
    words = record.at("command")
    command = " ".join(word for word in words if isinstance(word, str)) if isinstance(words, list) else ""
    shown = f"    {' '.join(command.split())}\n\n" if command else ""
    day = record.text_at("time")[:10]
    heading = f"### {record.model_name} on {record.device_name}\n\n"
    rows = [("edgellama", row) for row in record.results]
    rows += [(peer.runtime, row) for peer in record.peers for row in peer.results]
    header = ("Runtime", "Test", "Threads", "Tokens/s", "±", "Limit", "Of the limit", "J/token")
    return heading + f"Measured {day}:\n\n" + shown + table(header, (_full_row(*row) for row in rows))


def _full_row(runtime: str, row: Result) -> tuple[str, ...]:
    joules = number(row.energy_source.get("joules_per_token_above_idle"))
    return (
        runtime,
        row.test,
        str(row.n_threads),
        _median(row),
        "" if row.stddev_ts is None else number_text(row.stddev_ts, digits=2),
        f"{number_text(row.limit_ts)} ({row.limit})" if row.limit_ts else "",
        f"{row.of_limit:.0%}" if row.of_limit else "",
        "" if joules is None else number_text(joules),
    )


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; columns without a single value are left out."""
    rows = list(rows)
    kept = [index for index in range(len(header)) if any(row[index] for row in rows)]
    lines = [[header[index] for index in kept], ["---"] * len(kept), *([_cell(row[i]) for i in kept] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
