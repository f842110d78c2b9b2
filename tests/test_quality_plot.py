"""The picture of sizes against divergences: what is measured, and that every file's name is in it."""

import json

import pytest

import edgellama
from bench import __main__ as bench_commands
from bench.quality_plot import Point, marks
from quant import text_chunks
from quant.log_prob_file import log_prob_writer
from quant.perplexity import perplexity, scored_rows


@pytest.fixture(scope="module")
def base_file(shared_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.kld"
    text = (shared_data / "text" / "frankenstein.txt").read_text()[:5000]
    with edgellama.load(shared_data / "trained" / "stories260K" / "f32.gguf", context=64) as model:
        chunks = text_chunks.cut(model.tokenizer, text, 64).first(4)
        with log_prob_writer(path, chunks, model.config.vocab_size) as save:
            perplexity(scored_rows(model, chunks), save)
    return path


def test_files_of_one_size_and_divergence_share_a_mark():
    found = marks(
        [Point("Q6_K", 3 << 20, 0.01, 0.001), Point("F16", 4 << 20, 0.1, 0.01), Point("Q8_0", 3 << 20, 0.01, 0.001)]
    )
    assert [(mark.size_mib, mark.label) for mark in found] == [(3, "Q6_K, Q8_0"), (4, "F16")]
    assert found[0].color != found[1].color


def test_picture_of_a_folder(shared_data, base_file, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra `bench` draws pictures")
    folder = shared_data / "quantized" / "stories260K"
    arguments = ["quality-plot", str(folder), "--base", str(base_file), "-o", str(tmp_path / "plot.svg"), "--json"]
    assert bench_commands.main(arguments) == 0
    points = {point["name"]: point for point in json.loads(capsys.readouterr().out)}
    assert points.keys() == {path.stem for path in folder.glob("*.gguf")}
    assert all(point["size_bytes"] == (folder / f"{name}.gguf").stat().st_size for name, point in points.items())
    order = [points[name]["divergence"] for name in ("Q4_0", "Q5_0", "Q8_0", "BF16")]
    assert order == sorted(order, reverse=True)
    picture = (tmp_path / "plot.svg").read_text()
    shown = {name for name, point in points.items() if point["divergence"] > 0}
    assert all(name in picture for name in shown)  # each text of an SVG stands in a comment beside its letters


def test_a_folder_without_models_is_refused(base_file, tmp_path):
    with pytest.raises(edgellama.EdgellamaError, match=r"holds no \.gguf files"):
        bench_commands.main(["quality-plot", str(tmp_path), "--base", str(base_file), "-o", str(tmp_path / "p.png")])
