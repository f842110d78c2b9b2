"""LoRA adapters: merged into their base, against a merge and a forward pass in NumPy; kept, against llama.cpp."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapter_files import EMBEDDING, OUTPUT, all_modules, draw, merged, pairs, write_adapter
from checkpoint_files import (
    CONFIG,
    llama2c_bytes,
    llama2c_tokenizer,
    safetensors_bytes,
    tensors_of,
    write_hugging_face,
    write_json,
    write_tokenizer,
)
from hugging_face_forward import logits as hugging_face_logits

import edgellama
from converters import writer
from converters.adapter_conversion import plan_adapter
from converters.conversion import Conversion, ConvertOptions, SourceOptions, plan_conversion, write_conversion
from converters.partial_file import fingerprint
from converters.sources import peft_adapter
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf

IDS = [256, *range(10, 230, 6)]
TENSORS = tensors_of(CONFIG)
TIED_CONFIG = CONFIG | {"tie_word_embeddings": True}
TIED = tensors_of(TIED_CONFIG)


@pytest.fixture
def base(tmp_path) -> Path:
    return write_hugging_face(tmp_path / "base", CONFIG, TENSORS, "BF16")


def options(base: Path | None, type_name: str = "f32", **source) -> ConvertOptions:
    return ConvertOptions(type_name, source=SourceOptions(base=base, **source))


def merge(adapter: Path, base: Path, type_name: str = "f32") -> tuple[Conversion, Path]:
    conversion = plan_conversion(adapter, options(base, type_name))
    return conversion, write_conversion(conversion, adapter.parent / "out.gguf")


def keep(adapter: Path, base: Path, type_name: str = "f32") -> tuple[Conversion, Path]:
    conversion = plan_adapter(adapter, options(base, type_name))
    return conversion, write_conversion(conversion, adapter.parent / "adapter.gguf")


def all_tensors(path: Path) -> dict[str, np.ndarray]:
    with open_gguf(path) as file:
        return {t.name: t.data.view("<f4").reshape(t.shape).copy() for t in file.tensors.values()}


def assert_logits(path: Path, tensors, config=CONFIG) -> None:
    with edgellama.load(path, kv_type="f32") as model:
        found = model.logits(IDS)
    np.testing.assert_allclose(found, hugging_face_logits(config, tensors, IDS), atol=1e-3)


def magnitudes(tensors) -> dict[str, np.ndarray]:
    return {
        f"{module}.lora_magnitude_vector": np.abs(draw(TENSORS[f"{module}.weight"].shape[:1], 50)) + 0.5
        for module in dict.fromkeys(name.partition(".lora_")[0] for name in tensors)
    }


# Merged, against a merge in float64


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize("layout", ["model.safetensors", "3 model.safetensors", "2 pytorch_model.bin"])
def test_files(tmp_path, layout, file):
    base = write_hugging_face(tmp_path / "base", CONFIG, TENSORS, "BF16", layout)
    adapter = pairs(TENSORS, all_modules())
    conversion, out = merge(write_adapter(tmp_path / "a", adapter, file), base)
    assert conversion.notes == []
    assert_logits(out, merged(TENSORS, adapter))


PATTERNED = {"model.layers.0.self_attn.q_proj": 2, "model.layers.1.mlp.down_proj": 6}
ALPHAS = {"model.layers.1.mlp.up_proj": 3, "model.layers.0.self_attn.k_proj": 5, "model.layers.1.self_attn.k_proj": 5}
CASES = {
    "some modules": (pairs(TENSORS, all_modules()[::3]), {}, {}),
    "output": (pairs(TENSORS, [OUTPUT]), {}, {}),
    "embedding": (pairs(TENSORS, [EMBEDDING, *all_modules()]), {}, {}),
    "rslora": (pairs(TENSORS, all_modules(), 9), {"r": 9, "use_rslora": True}, {"rank_power": 0.5}),
    "half an alpha": (pairs(TENSORS, all_modules()), {"lora_alpha": 2.5}, {"alpha": 2.5}),
    "patterns": (
        pairs(TENSORS, all_modules(), PATTERNED),
        {
            "rank_pattern": {"layers.0.self_attn.q_proj": 2, r"^model\.layers\.1\.mlp\.down_proj": 6},
            "alpha_pattern": {"1.mlp.up_proj": 3, r"self_attn\.[kx]_proj": 5, "proj": 100, "k_proj": 100},
        },
        {"alpha": ALPHAS},
    ),
    "dora": (
        pairs(TENSORS, all_modules()) | magnitudes(pairs(TENSORS, all_modules())),
        {"use_dora": True},
        {},
    ),
    "fan_in_fan_out": (pairs(TENSORS, all_modules()), {"fan_in_fan_out": True}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_changes(base, tmp_path, case):
    adapter, settings, how = CASES[case]
    _, out = merge(write_adapter(tmp_path / "a", adapter, **settings), base)
    assert_logits(out, merged(TENSORS, adapter, **how))


def test_names_of_older_files(base, tmp_path):
    """The adapter's name inside, wrappers that PEFT leaves, a model trained without its output matrix."""
    adapter = pairs(TENSORS, all_modules()) | {f"{OUTPUT}.weight": draw(TENSORS[f"{OUTPUT}.weight"].shape, 77)}
    spelled = {}
    for name, values in adapter.items():
        short = name.removeprefix("model.").replace("_A.weight", "_A.default.weight")
        spelled[short.replace("_B.weight", "_B.default.weight").replace("head.w", "head.modules_to_save.default.w")] = (
            values
        )
    copies = {f"{OUTPUT}.{word}weight": TENSORS[f"{OUTPUT}.weight"] for word in ("", "original_module.")}
    for place, tensors in enumerate((copies | spelled, spelled | copies)):
        _, out = merge(write_adapter(tmp_path / f"a{place}", tensors), base)
        assert_logits(out, merged(TENSORS, adapter))


def test_biases(tmp_path):
    config = CONFIG | {"attention_bias": True, "mlp_bias": True}
    tensors = tensors_of(config)
    base = write_hugging_face(tmp_path / "base", config, tensors)
    adapter = pairs(tensors, all_modules())
    biases = {name: draw(values.shape, 60) for name, values in tensors.items() if name.endswith(".bias")}
    spelled = {name.replace(".bias", ".base_layer.bias"): values for name, values in biases.items()}
    _, out = merge(write_adapter(tmp_path / "a", adapter | spelled, bias="all"), base)
    assert_logits(out, merged(tensors, adapter | biases), config)


@pytest.mark.parametrize("wrapped", [False, True])
def test_extended_vocabulary(base, tmp_path, wrapped):
    """Whole embedding and output matrix with more rows, a tokenizer beside them; or a change of the grown embedding."""
    whole = {f"{module}.weight": draw((311, 48), seed) for seed, module in enumerate((EMBEDDING, OUTPUT))}
    adapter = pairs(TENSORS | whole, [EMBEDDING, *all_modules()] if wrapped else all_modules()) | whole
    spelled = {name.replace("tokens.weight", "tokens.base_layer.weight"): adapter[name] for name in adapter}
    folder = write_adapter(tmp_path / "a", spelled if wrapped else adapter)
    write_tokenizer(folder)
    conversion, out = merge(folder, base)
    assert conversion.notes == ["the tokenizer is the one in the adapter's folder"]
    with open_gguf(out) as file:
        assert file.get("llama.vocab_size", int) == 311 == file.metadata.array_length("tokenizer.ggml.tokens")
    assert_logits(out, merged(TENSORS, adapter), CONFIG | {"vocab_size": 311})


# A base with one matrix for both ends: what the adapter changes alone is parted, as PEFT computes


@pytest.mark.parametrize(
    ("modules", "settings", "parted"),
    [
        (all_modules(), {}, False),
        ([EMBEDDING], {}, True),
        ([EMBEDDING], {"ensure_weight_tying": True}, False),
        ([OUTPUT], {}, True),
    ],
)
def test_tied_base(tmp_path, modules, settings, parted):
    base = write_hugging_face(tmp_path / "base", TIED_CONFIG, TIED)
    both = TIED | {f"{OUTPUT}.weight": TIED[f"{EMBEDDING}.weight"]}
    adapter = pairs(both, modules)
    conversion, out = merge(write_adapter(tmp_path / "a", adapter, **settings), base)
    assert [note.startswith("the base uses one matrix") for note in conversion.notes] == [True] * parted
    with open_gguf(out) as file:
        assert ("output.weight" in file.tensors) == parted
    assert_logits(out, merged(both if parted else TIED, adapter), TIED_CONFIG)


def test_tied_base_with_a_larger_vocabulary(tmp_path):
    base = write_hugging_face(tmp_path / "base", TIED_CONFIG, TIED)
    adapter = pairs(TIED, all_modules()) | {f"{EMBEDDING}.weight": draw((311, 48), 5)}
    _, out = merge(write_adapter(tmp_path / "a", adapter), base)
    with open_gguf(out) as file:
        assert "output.weight" not in file.tensors
    assert_logits(out, merged(TIED, adapter), TIED_CONFIG | {"vocab_size": 311})


# Memory, provenance, going on


def test_parts_do_not_matter(base, tmp_path, monkeypatch):
    """A merge is computed by rows; what a row becomes does not depend on how many come at once."""
    for case in ("dora", "embedding"):
        tensors, settings, _ = CASES[case]
        adapter = write_adapter(tmp_path / "a", tensors, **settings)
        monkeypatch.undo()
        whole = all_tensors(merge(adapter, base)[1])
        monkeypatch.setattr(writer, "_CHUNK_VALUES", 480)
        for name, values in all_tensors(merge(adapter, base)[1]).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-6)


def test_a_merge_is_rounded_once(base, tmp_path):
    adapter = pairs(TENSORS, all_modules())
    _, out = merge(write_adapter(tmp_path / "a", adapter), base, "bf16")
    with open_gguf(out) as file:
        found = file.tensors["blk.1.ffn_up.weight"].data.view("<u2").astype("<u4") << 16
    exact = merged(TENSORS, adapter)["model.layers.1.mlp.up_proj.weight"]
    half_unit = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 8)
    assert (np.abs(found.view("<f4").reshape(exact.shape) - exact) <= half_unit * 1.001).all()


def test_both_sources_are_recorded(base, tmp_path):
    adapter = write_adapter(tmp_path / "a", pairs(TENSORS, all_modules()))
    names = {}
    for write, config_only in ((merge, False), (keep, True)):
        _, out = write(adapter, base)
        with open_gguf(out) as file:
            strings = [b.decode() for b in file.metadata.raw_strings("edgellama.source.files")]
            digests = [b.decode() for b in file.metadata.raw_strings("edgellama.source.sha256")]
            assert file.get("general.base_model.0.name", str) == "base"
        names[config_only] = strings
        assert len(set(digests)) == len(strings) and "0" * 64 not in digests
    assert names[False] == ["adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"]
    assert names[True] == ["adapter_config.json", "adapter_model.safetensors", "config.json"]


@pytest.mark.parametrize("plan", [plan_conversion, plan_adapter])
def test_no_source_is_overwritten(base, tmp_path, plan):
    adapter = write_adapter(tmp_path / "a", pairs(TENSORS, all_modules()))
    files = [adapter / "adapter_config.json", adapter / "adapter_model.safetensors", base / "config.json"]
    files += [base / "model.safetensors"] if plan is plan_conversion else []
    for path in files:
        before = path.read_bytes()
        with pytest.raises(EdgellamaError, match="is the checkpoint itself"):
            write_conversion(plan(adapter, options(base)), path)
        assert path.read_bytes() == before


def test_what_is_resumed_depends_on_both(base, tmp_path):
    """The mark in the journal changes with a file of either."""
    adapter = write_adapter(tmp_path / "a", pairs(TENSORS, all_modules()))
    files = plan_conversion(adapter, options(base)).checkpoint.files
    first = fingerprint(b"", files)
    for path in (adapter / "adapter_model.safetensors", base / "model.safetensors", adapter / "adapter_config.json"):
        os.utime(path, ns=(1, 1))
        assert fingerprint(b"", files) != first
        first = fingerprint(b"", files)


# Kept as an adapter


def test_layout_of_a_kept_adapter(base, tmp_path):
    """Rows of q and k in the order of the file, the embedding's A by tokens, everything else as it was."""
    adapter = pairs(TENSORS, [EMBEDDING, OUTPUT, *all_modules()])
    (base / "model.safetensors").unlink()
    conversion, out = keep(write_adapter(tmp_path / "a", adapter), base)
    assert conversion.outputs[0].name == "token_embd.weight.lora_a" and len(conversion.outputs) == 32
    found = all_tensors(out)
    with open_gguf(out) as file:
        keys = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
        assert {key: file.get(key, str) for key in keys} == keys
        assert file.get("adapter.lora.alpha", float) == 8.0
        np.testing.assert_array_equal(found["token_embd.weight.lora_a"], adapter[f"{EMBEDDING}.lora_embedding_A"].T)
        np.testing.assert_array_equal(found["token_embd.weight.lora_b"], adapter[f"{EMBEDDING}.lora_embedding_B"])
        for name in ("q", "v"):
            module = f"model.layers.1.self_attn.{name}_proj"
            np.testing.assert_array_equal(found[f"blk.1.attn_{name}.weight.lora_a"], adapter[f"{module}.lora_A.weight"])
            rows = adapter[f"{module}.lora_B.weight"]
            if name == "q":  # heads of 12 rows: 0, 6, 1, 7, ...
                rows = rows.reshape(4, 2, 6, -1).swapaxes(1, 2).reshape(rows.shape)
            np.testing.assert_array_equal(found[f"blk.1.attn_{name}.weight.lora_b"], rows)


@pytest.mark.parametrize("case", ["rslora", "patterns"])
def test_other_scales_are_in_b(base, tmp_path, case):
    adapter, settings, how = CASES[case]
    _, out = keep(write_adapter(tmp_path / "a", adapter, **settings), base)
    change = merged({name: np.zeros_like(values) for name, values in TENSORS.items()}, adapter, **how)
    found = all_tensors(out)
    with open_gguf(out) as file:
        alpha = file.get("adapter.lora.alpha", float)
        for name, module in (
            ("blk.0.ffn_up", "model.layers.0.mlp.up_proj"),
            ("blk.1.ffn_up", "model.layers.1.mlp.up_proj"),
        ):
            a, b = (found[f"{name}.weight.lora_{end}"].astype(np.float64) for end in "ab")
            np.testing.assert_allclose(alpha / len(a) * (b @ a), change[f"{module}.weight"], rtol=1e-5, atol=1e-6)


def test_the_runtime_says_that_it_is_no_model(base, tmp_path):
    _, out = keep(write_adapter(tmp_path / "a", GOOD), base)
    with pytest.raises(EdgellamaError, match=r"adapter\.gguf: is an adapter, which runs merged"):
        edgellama.load(out)


PEER = """
import sys, numpy, llama_cpp
model, adapter, out, *ids = sys.argv[1:]
llama = llama_cpp.Llama(model, lora_path=adapter or None, n_ctx=64, logits_all=True, verbose=False, type_k=0, type_v=0)
llama.eval([int(i) for i in ids])
numpy.save(out, llama.scores[:len(ids)])
"""


def llama_cpp_logits(path: Path, adapter: Path | str = "") -> np.ndarray:
    out = path.with_suffix(".npy")
    command = [sys.executable, "-c", PEER, str(path), str(adapter), str(out), *map(str, IDS)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return np.load(out)


@pytest.mark.parametrize("case", ["embedding", "output", "patterns", "rslora", "some modules"])
def test_llama_cpp_adds_a_kept_adapter(base, tmp_path, case):
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")
    adapter, settings, how = CASES[case]
    folder = write_adapter(tmp_path / "a", adapter, **settings)
    alone = write_conversion(plan_conversion(base, options(None)), tmp_path / "base.gguf")
    (_, whole), (_, kept) = merge(folder, base), keep(folder, base)
    expected = hugging_face_logits(CONFIG, merged(TENSORS, adapter, **how), IDS)
    found = llama_cpp_logits(alone, kept)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found, llama_cpp_logits(whole), atol=1e-3)
    assert np.abs(llama_cpp_logits(alone) - expected).max() > 0.1


# Refusals


def assert_refused(plan, adapter: Path, base: Path | None, *words: str, type_name: str = "f32") -> None:
    before = sorted(adapter.parent.rglob("*"))
    with pytest.raises(EdgellamaError) as error:
        write_conversion(plan(adapter, options(base, type_name)), adapter.parent / "out.gguf")
    message = str(error.value)
    assert "\n" not in message and len(message) < 400, message
    for word in words:
        assert word in message, message
    assert sorted(adapter.parent.rglob("*")) == before


Q = "model.layers.0.self_attn.q_proj"
GOOD = pairs(TENSORS, [Q])
A, B = GOOD[f"{Q}.lora_A.weight"], GOOD[f"{Q}.lora_B.weight"]
LATER = "model.layers.2.mlp.up_proj"


@pytest.mark.parametrize("plan", [plan_conversion, plan_adapter])
@pytest.mark.parametrize(
    ("tensors", "settings", "words"),
    [
        (GOOD, {"peft_type": "PREFIX_TUNING"}, ["'PREFIX_TUNING'", "only LORA"]),
        (GOOD, {"peft_type": None}, ["peft_type is missing"]),
        (GOOD, {"r": 0}, ["r is 0"]),
        (GOOD, {"r": "many"}, ["r must be an integer"]),
        (GOOD, {"r": 8}, [f"'{Q}'", "rank 8", "(4, 48)"]),
        (GOOD, {"lora_alpha": 0}, ["lora_alpha is 0"]),
        (GOOD, {"lora_alpha": None}, ["lora_alpha is missing"]),
        (GOOD, {"alpha_pattern": {"q_proj": -1}}, ["alpha_pattern.q_proj is -1"]),
        (GOOD, {"alpha_pattern": {"(": 1}}, ["alpha_pattern has the pattern '('"]),
        (GOOD, {"rank_pattern": [1]}, ["rank_pattern must be an object"]),
        (GOOD, {"layer_replication": [[0, 2]]}, ["layer_replication is set"]),
        (GOOD, {"alora_invocation_tokens": [5]}, ["alora_invocation_tokens is set"]),
        (GOOD, {"init_lora_weights": "pissa_niter_4"}, ["'pissa_niter_4'", "plain LoRA"]),
        (GOOD, {"use_dora": True}, ["use_dora", "lora_magnitude_vector"]),
        ({}, {}, ["no lora_A and lora_B"]),
        ({f"{Q}.lora_A.weight": A}, {}, [f"'{Q}' lacks its lora_B"]),
        ({f"{Q}.lora_B.weight": B}, {}, [f"'{Q}' lacks its lora_A"]),
        (GOOD | {f"{Q}.lora_A.second.weight": A}, {}, ["more than one adapter"]),
        (GOOD | {f"{Q}.lora_B.bias": B[:, 0]}, {}, [f"'{Q}.lora_B.bias' is of a kind"]),
        (GOOD | {f"{Q}.lora_E": A}, {}, [f"'{Q}.lora_E' is of a kind"]),
        (GOOD | {f"{Q}.lora_A.weight": A[:, :40]}, {}, [Q, "(48, 40)", "(48, 48)"]),
        (GOOD | {f"{Q}.lora_A.weight": A[:3]}, {}, [f"'{Q}'", "(3, 48)"]),
        (GOOD | {f"{Q}.lora_A.weight": A[0]}, {}, [f"'{Q}'", "(48,)"]),
        (pairs({f"{LATER}.weight": np.zeros((80, 48))}, [LATER]), {}, [LATER]),
        (GOOD | {f"{Q}.lora_A.weight": A * np.nan}, {}, ["blk.0.attn_q.weight", "NaN"]),
        (GOOD | {f"{Q}.lora_B.weight": B * np.inf}, {}, ["blk.0.attn_q.weight", "NaN or infinity"]),
    ],
)
def test_adapters_that_are_wrong(base, tmp_path, plan, tensors, settings, words):
    assert_refused(plan, write_adapter(tmp_path / "a", tensors, **settings), base, *words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"score.weight": np.zeros((2, 48))}, ["'score.weight'", "lacks", "maker/tiny-llama"]),
        ({f"{EMBEDDING}.weight": np.zeros((311, 48))}, ["embedding of 311 tokens and an output of 300"]),
        ({f"{EMBEDDING}.weight": np.zeros((300, 40))}, ["(300, 40)", "(300, 48)"]),
        ({"model.norm.weight": np.zeros(40)}, ["'model.norm.weight'", "(40,)"]),
    ],
)
def test_whole_tensors_that_do_not_fit(base, tmp_path, more, words):
    assert_refused(plan_conversion, write_adapter(tmp_path / "a", GOOD | more), base, *words)


@pytest.mark.parametrize(
    ("tensors", "settings", "words"),
    [
        (CASES["dora"][0], {"use_dora": True}, ["DoRA, which must be merged"]),
        (GOOD | {"model.norm.weight": np.ones(48)}, {}, ["'model.norm.weight'", "must be merged"]),
        (GOOD | {f"{EMBEDDING}.weight": np.ones((300, 48))}, {}, ["must be merged"]),
    ],
)
def test_what_only_a_merge_can_hold(base, tmp_path, tensors, settings, words):
    assert_refused(plan_adapter, write_adapter(tmp_path / "a", tensors, **settings), base, *words)


def test_kept_ends_of_a_tied_base(tmp_path):
    base = write_hugging_face(tmp_path / "base", TIED_CONFIG, TIED)
    for module in (EMBEDDING, OUTPUT):
        adapter = write_adapter(tmp_path / "a", pairs(TENSORS, [module]))
        assert_refused(plan_adapter, adapter, base, module, "embedding and output in one")


def test_folders_and_options(base, tmp_path):
    adapter = write_adapter(tmp_path / "a", GOOD)
    assert_refused(plan_conversion, adapter, None, "is a LoRA adapter", "--base")
    assert_refused(plan_adapter, adapter, None, "--base")
    assert_refused(plan_conversion, adapter, tmp_path / "absent", "absent: no such file")
    assert_refused(plan_adapter, adapter, tmp_path / "absent", "absent: has no config.json")
    assert_refused(plan_conversion, adapter, adapter, "a LoRA adapter too")
    assert_refused(plan_adapter, adapter, base, "f32 or f16, not as q8_0", type_name="q8_0")
    assert_refused(plan_adapter, base, base, "only an adapter can be kept")
    data, _ = llama2c_bytes(CONFIG, TENSORS, 0)
    (tmp_path / "m.bin").write_bytes(data)
    (tmp_path / "tokenizer.bin").write_bytes(llama2c_tokenizer(300))
    assert_refused(plan_conversion, adapter, tmp_path / "m.bin", "Hugging Face form")
    (adapter / "adapter_model.safetensors").unlink()
    assert_refused(plan_conversion, adapter, base, "no weights", "adapter_model.bin")


def test_a_pattern_that_never_ends(base, tmp_path, monkeypatch):
    monkeypatch.setattr(peft_adapter, "_MATCH_SECONDS", 0.05)
    adapter = write_adapter(tmp_path / "a", GOOD, alpha_pattern={"(?:.|.)*[A-Z]": 3})
    assert_refused(plan_conversion, adapter, base, "which cannot be used")


def test_a_merged_model_that_kept_the_config(base, tmp_path):
    """It is a model: nothing is to be merged."""
    write_json(base / "adapter_config.json", {"peft_type": "LORA"})
    plan_conversion(base, options(None))


def test_tensors_that_lie(base, tmp_path):
    adapter = write_adapter(tmp_path / "a", GOOD)
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_bytes(GOOD)[:-1])
    assert_refused(plan_conversion, adapter, base, "cut short")


# The command


def run(*arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgellama", "convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_command(base, tmp_path):
    adapter = write_adapter(tmp_path / "a", CASES["embedding"][0])
    call = run(adapter, "--base", base, "--dry-run", "--json")
    assert call.returncode == 0, call.stderr
    rows = json.loads(call.stdout)["tensors"]
    assert len(rows) == 21 and {row["source_type"] for row in rows if "norm" not in row["name"]} == {"f32", "bf16"}
    call = run(adapter, "--base", base, "--keep-adapter", "-o", tmp_path / "adapter.gguf")
    assert (call.returncode, call.stderr) == (0, ""), call.stderr
    assert "30 tensors" in call.stdout
    call = run(adapter, "-o", tmp_path / "x.gguf")
    assert call.returncode == 2 and call.stderr.count("\n") == 1 and "--base" in call.stderr
