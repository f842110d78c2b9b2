"""Families: checkpoints of random weights, converted here, against the logits that other implementations gave for them.

Folders with a checkpoint and an `expected.npz` lie in ../shared/data/models; EDGELLAMA_REFERENCE_MODELS names a folder
of more, as its make_refs.py makes them.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from checkpoint_files import CONFIG, safetensors_bytes, tensors_of, write_hugging_face
from hugging_face_forward import logits as hugging_face_logits
from model_files import relative_rms

import edgellama
from converters.conversion import ConvertOptions, plan_conversion, write_conversion
from converters.sources.checkpoint import SourceOptions
from converters.sources.safetensors import read_safetensors
from edgellama.arch.blocks import alibi_slopes
from edgellama.chat.prompt import encode, template_for
from edgellama.errors import EdgellamaError
from edgellama.frame import Frame
from edgellama.gguf import open_gguf
from edgellama.model import Model, StepToken, recognise
from edgellama.program import Builder
from edgellama.reference import ReferenceMachine

SHARED_MODELS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "models"
MORE_MODELS = os.environ.get("EDGELLAMA_REFERENCE_MODELS", "")
EXPERTS = ("mixtral", "qwen2-moe", "qwen3-moe", "gpt-oss-bf16", "gpt-oss-mxfp4")  # do not run yet
TOLERANCE = 2e-3


def folders() -> Iterator[Path]:
    for root in filter(None, (SHARED_MODELS, MORE_MODELS)):
        for path in sorted(Path(root).glob("*/expected.npz")):
            if path.parent.name not in EXPERTS:
                yield path.parent


class Reference(NamedTuple):
    """A prompt and its greedy continuation: ids (n,), and float32 logits (n, vocab) of what follows each of them."""

    ids: list[int]
    logits: np.ndarray
    greedy: list[int]

    @property
    def margins(self) -> np.ndarray:
        """How far the likeliest token is ahead of the next, (n,)."""
        ordered = np.sort(self.logits, axis=1)
        return ordered[:, -1] - ordered[:, -2]


def read_reference(folder: Path) -> Reference:
    expected = np.load(folder / "expected.npz")
    prompt, greedy = expected["input_ids"].tolist(), expected["greedy_ids"].tolist()
    logits = np.concatenate([expected["logits"], expected["greedy_logits"][1:]])
    return Reference(prompt + greedy[:-1], logits, greedy)


@pytest.fixture(scope="module", params=list(folders()) or [None], ids=lambda path: path.name if path else "none")
def folder(request) -> Path:
    if request.param is None:
        pytest.skip("../shared/data is not there, and EDGELLAMA_REFERENCE_MODELS names no folder")
    return request.param


@pytest.fixture(scope="module")
def reference(folder) -> Reference:
    return read_reference(folder)


@pytest.fixture(scope="module")
def load(folder, tmp_path_factory) -> Callable[..., Model]:
    """The checkpoint as a model whose weights are of a type."""
    target = tmp_path_factory.mktemp("families")

    def make(type_name: str, **options) -> Model:
        path = target / f"{type_name}.gguf"
        if not path.exists():
            write_conversion(plan_conversion(folder, ConvertOptions(type_name)), path)
        return edgellama.load(path, threads=1, **options)

    return make


def test_logits_and_greedy_continuation(load, reference):
    with load("f32", kv_type="f32") as model:
        found = model.logits(reference.ids)
        start = len(reference.ids) + 1 - len(reference.greedy) if model.prefix_rule else 0  # one step cannot do less
        with model.new_session() as session:
            first = session.logits(reference.ids[:start]) if start else found[:0]
            stepped = np.stack([session.decode(token_id) for token_id in reference.ids[start:]])
    assert np.abs(found - reference.logits).max() < TOLERANCE
    assert found[-len(reference.greedy) :].argmax(axis=1).tolist() == reference.greedy
    np.testing.assert_array_equal(np.concatenate([first, stepped]), found)


@pytest.mark.parametrize(("type_name", "largest_error"), [("q8_0", 0.15), ("q4_k_m", 0.8)])
def test_quantized(load, reference, type_name, largest_error):
    """Near the exact logits; where those leave no doubt, with the same choice."""
    with load(type_name) as model:
        found = model.logits(reference.ids)
    assert relative_rms(found, reference.logits) < largest_error
    error = np.sqrt(np.mean((found - reference.logits) ** 2))
    certain = reference.margins > 6 * error
    assert (found.argmax(axis=1) == reference.logits.argmax(axis=1))[certain].all()


# Layouts and configs for which no reference exists


def internlm2(config: dict, tensors: dict[str, np.ndarray]) -> tuple[dict, dict[str, np.ndarray]]:
    """A Llama as InternLM 2 keeps it: each KV head's queries, key and value together, and other names."""
    n_kv_heads = config["num_key_value_heads"]
    names = {
        "model.embed_tokens": "model.tok_embeddings", "lm_head": "output", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
    }  # fmt: skip
    out = {}
    for name, values in tensors.items():
        if ".q_proj." in name:
            parts = [tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            grouped = [part.reshape(n_kv_heads, -1, part.shape[1]) for part in parts]
            packed = np.concatenate(grouped, axis=1).reshape(-1, values.shape[1])
            out[name.replace("self_attn.q_proj", "attention.wqkv")] = packed
        elif "k_proj" not in name and "v_proj" not in name:
            for old, new in names.items():
                name = name.replace(old, new)
            out[name] = values
    return config | {"model_type": "internlm2", "bias": False}, out


def test_internlm2_is_a_llama_in_another_order(tmp_path):
    tensors, paths = tensors_of(CONFIG), []
    for kind, (config, stored) in {"llama": (CONFIG, tensors), "internlm2": internlm2(CONFIG, tensors)}.items():
        source = write_hugging_face(tmp_path / kind, config, stored)
        paths.append(tmp_path / f"{kind}.gguf")
        write_conversion(plan_conversion(source, ConvertOptions("f32")), paths[-1])
    ids = list(range(10, 40))
    logits = []
    for path in paths:
        with edgellama.load(path, kv_type="f32", threads=1) as model:
            logits.append(model.logits(ids))
    np.testing.assert_array_equal(*logits)


def qwen(config: dict, tensors: dict[str, np.ndarray]) -> tuple[dict, dict[str, np.ndarray]]:
    """A Llama with biases on queries, keys and values, and without grouped queries, as Qwen 1 keeps it."""
    names = {
        "model.embed_tokens": "wte", "model.norm": "ln_f", "model.layers": "h", "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.c_proj", "mlp.gate_proj": "mlp.w2",
        "mlp.up_proj": "mlp.w1", "mlp.down_proj": "mlp.c_proj",
    }  # fmt: skip
    out = {}
    for name, values in tensors.items():
        if "q_proj" in name:
            parts = [tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            name, values = name.replace("self_attn.q_proj", "attn.c_attn"), np.concatenate(parts)
        elif "k_proj" in name or "v_proj" in name:
            continue
        for old, new in names.items():
            name = name.replace(old, new)
        out[name if name.startswith("lm_head") else f"transformer.{name}"] = values
    own = {
        "model_type": "qwen", "intermediate_size": 2 * config["intermediate_size"], "no_bias": True,
        "layer_norm_epsilon": config["rms_norm_eps"], "rotary_emb_base": config["rope_theta"], "rotary_pct": 1.0,
        "seq_length": config["max_position_embeddings"], "kv_channels": 12,
    }  # fmt: skip
    shared = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "bos_token_id", "eos_token_id")
    return own | {name: config[name] for name in shared}, out


def test_qwen_1(tmp_path):
    config = CONFIG | {"num_key_value_heads": CONFIG["num_attention_heads"], "attention_bias": True}
    tensors = {name: values for name, values in tensors_of(config).items() if "o_proj.bias" not in name}
    source = write_hugging_face(tmp_path / "c", *qwen(config, tensors))
    write_conversion(plan_conversion(source, ConvertOptions("f32")), tmp_path / "out.gguf")
    ids = list(range(10, 40))
    with edgellama.load(tmp_path / "out.gguf", kv_type="f32", threads=1) as model:
        np.testing.assert_allclose(model.logits(ids), hugging_face_logits(config, tensors, ids), atol=2e-4)


def baichuan2(config: dict, tensors: dict[str, np.ndarray]) -> tuple[dict, dict[str, np.ndarray]]:
    """A Llama without grouped queries as Baichuan 2 keeps it."""
    out = {
        name: values for name, values in tensors.items() if name.split(".")[-2] not in ("q_proj", "k_proj", "v_proj")
    }
    for layer in range(config["num_hidden_layers"]):
        parts = [tensors[f"model.layers.{layer}.self_attn.{part}_proj.weight"] for part in "qkv"]
        out[f"model.layers.{layer}.self_attn.W_pack.weight"] = np.concatenate(parts)
    return config | {"model_type": "baichuan", "z_loss_weight": 0}, out


def test_baichuan_2_divides_the_rows_of_its_output_matrix(tmp_path):
    config = CONFIG | {"num_key_value_heads": CONFIG["num_attention_heads"]}
    tensors = tensors_of(config)
    source = write_hugging_face(tmp_path / "c", *baichuan2(config, tensors))
    write_conversion(plan_conversion(source, ConvertOptions("f32")), tmp_path / "out.gguf")
    ids = list(range(10, 40))
    with edgellama.load(tmp_path / "out.gguf", kv_type="f32", threads=1) as model:
        found = model.logits(ids)
    head = tensors["lm_head.weight"]
    unit = head / np.linalg.norm(head, axis=1, keepdims=True)
    np.testing.assert_allclose(found, hugging_face_logits(config, tensors | {"lm_head.weight": unit}, ids), atol=2e-4)


@pytest.mark.parametrize("n_heads", (8, 40, 12))
def test_alibi_slopes(n_heads):
    """As the paper's code makes them: of 64 heads every second, where 40 are no power of two."""

    def series(n: int) -> list[float]:
        return [2.0 ** (-8.0 * i / n) for i in range(1, n + 1)]

    power = 2 ** int(np.log2(n_heads))
    wanted = series(power) + series(2 * power)[0::2][: n_heads - power]
    np.testing.assert_allclose(alibi_slopes(n_heads, 8.0), wanted, rtol=1e-6)


_GEMMA2 = {"model_type": "gemma2", "sliding_window": 16, "query_pre_attn_scalar": 12}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_config": {}}, "vision part"),
        ({"model_type": "wavenet"}, "'wavenet' cannot be converted"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"intermediate_size": 64}, "has shape"),
        ({"model_type": "qwen2"}, "q_proj.bias' is missing"),
        ({"model_type": "qwen3"}, "q_norm.weight' is missing"),
        ({"model_type": "gemma2", "sliding_window": 16}, "query_pre_attn_scalar is missing"),
        ({"model_type": "gpt2"}, "n_embd is missing"),
        ({**_GEMMA2, "layer_types": ["full_attention"] * 2}, "layer_types says that other layers have a window"),
        ({"model_type": "phi3"}, "qkv_proj.weight' is missing"),
        ({"model_type": "baichuan"}, "W_pack.weight' is missing"),
        ({"model_type": "chatglm", "rope_ratio": "wide"}, "cannot be computed"),
    ],
)
def test_configs_that_contradict_the_checkpoint(tmp_path, changes, words):
    """One sentence that names the field or the tensor."""
    source = write_hugging_face(tmp_path / "c", CONFIG | changes, tensors_of(CONFIG))
    with pytest.raises(EdgellamaError, match=re.escape(words)) as error:
        plan_conversion(source, ConvertOptions("f32"))
    assert "\n" not in str(error.value)


def write_adapter(folder: Path, module: str, shape: tuple[int, int]) -> Path:
    """A LoRA adapter of rank 2 and scale 1 for one matrix, of ones."""
    folder.mkdir()
    name = f"base_model.model.{module}.lora_"
    tensors = {f"{name}A.weight": np.ones((2, shape[1]), np.float32), f"{name}B.weight": np.ones((shape[0], 2))}
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": [module.rpartition(".")[2]]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_adapter_of_a_family_without_an_output_matrix(tmp_path):
    base = long_checkpoint("gemma2", tmp_path)
    adapter = write_adapter(tmp_path / "adapter", "model.layers.1.mlp.up_proj", (80, 48))
    files = []
    for source, options in ((base, SourceOptions()), (adapter, SourceOptions(base=base))):
        files.append(tmp_path / f"{len(files)}.gguf")
        write_conversion(plan_conversion(source, ConvertOptions("f32", source=options)), files[-1])
    with open_gguf(files[0]) as plain, open_gguf(files[1]) as merged:
        for name, tensor in plain.tensors.items():
            change = 2.0 if name == "blk.1.ffn_up.weight" else 0.0
            np.testing.assert_allclose(merged.tensors[name].decode(), tensor.decode() + change, rtol=1e-6)
    embedding = write_adapter(tmp_path / "embedding", "model.layers.1.mlp.up_proj", (80, 48))
    weights = read_safetensors(embedding / "adapter_model.safetensors").items()
    tensors = {name: tensor.rows(0, tensor.n_rows) for name, tensor in weights}
    tensors["base_model.model.model.embed_tokens.weight"] = np.ones((300, 48), np.float32)
    (embedding / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    with pytest.raises(EdgellamaError, match="changes one end of the model alone"):
        plan_conversion(embedding, ConvertOptions("f32", source=SourceOptions(base=base)))


def test_a_tensor_that_is_no_part_of_the_family(tmp_path):
    tensors = tensors_of(CONFIG) | {"model.layers.0.self_attn.q_norm.weight": np.ones(12, np.float32)}
    source = write_hugging_face(tmp_path / "c", CONFIG, tensors)
    with pytest.raises(EdgellamaError, match=r"q_norm\.weight' has no place in a llama"):
        plan_conversion(source, ConvertOptions("f32"))


def test_chatglm_has_tokens_that_its_tokenizer_file_lacks(shared_data, tmp_path):
    folder = shared_data / "models" / "chatglm2"
    write_conversion(plan_conversion(folder, ConvertOptions("f32")), tmp_path / "out.gguf")
    expected = np.load(folder / "expected.npz")
    text = json.loads(str(expected["meta"]))["text"]
    with edgellama.load(tmp_path / "out.gguf", threads=1) as model:
        assert model.tokenizer.encode(text)[:40] == expected["input_ids"].tolist()
        ids = encode(
            template_for(model, "chatglm2", False), [{"role": "user", "content": "[gMASK]"}], model.tokenizer, ()
        )
        assert ids[:2] == list(model.tokenizer.prefix_ids) == expected["input_ids"][:2].tolist()
        assert ids.count(ids[0]) == 1


def test_configs_of_transformers_5(folder, tmp_path):
    """The other spelling of the same config makes the same file."""
    if not (folder / "config.v5.json").is_file():
        pytest.skip("this checkpoint has one config only")
    copy = shutil.copytree(folder, tmp_path / folder.name)
    shutil.copyfile(folder / "config.v5.json", copy / "config.json")
    options = ConvertOptions("f32")
    assert repr(plan_conversion(copy, options).metadata) == repr(plan_conversion(folder, options).metadata)


# Texts that are longer than the references, against the reference interpreter

GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 20,
    "num_key_value_heads": 2,
    "query_pre_attn_scalar": 31,
}
LONG = {
    "gemma2": {"sliding_window": 33, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 9.0, **GEMMA},
    "gemma3_text": {"sliding_window": 300, "rope_local_base_freq": 100.0, "num_hidden_layers": 7, **GEMMA},
    "mistral": {"sliding_window": 100, "head_dim": 96, "num_key_value_heads": 1},
    "baichuan": {"num_key_value_heads": 4},
}


def long_checkpoint(kind: str, folder: Path) -> Path:
    config = CONFIG | LONG[kind] | {"model_type": kind, "max_position_embeddings": 1024}
    tensors = tensors_of(config)
    if kind == "baichuan":
        config, tensors = baichuan2(config, tensors)
        del config["max_position_embeddings"]
        config["model_max_length"] = 1024
    if kind.startswith("gemma"):
        tensors.pop("lm_head.weight", None)
        for layer in range(config["num_hidden_layers"]):
            for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
                tensors[f"model.layers.{layer}.{name}.weight"] = np.full(config["hidden_size"], 0.25, np.float32)
            if kind == "gemma3_text":
                norms = {f"model.layers.{layer}.self_attn.{part}_norm.weight": np.full(20, 0.5) for part in "qk"}
                tensors |= {name: values.astype(np.float32) for name, values in norms.items()}
    return write_hugging_face(folder / kind, config, tensors)


@pytest.mark.parametrize("kind", LONG)
def test_long_texts_side_by_side(tmp_path, kind):
    """600 tokens in uneven steps, then two sequences of other lengths in one step."""
    path = tmp_path / "out.gguf"
    write_conversion(plan_conversion(long_checkpoint(kind, tmp_path), ConvertOptions("f32")), path)
    random = np.random.default_rng(0)
    texts = [random.integers(3, 256, length).tolist() for length in (600, 40)]
    with edgellama.load(path, kv_type="f32", threads=2, context=1024, sequences=2) as model:
        sessions = [model.new_session() for _ in texts]
        for session, text in zip(sessions, texts, strict=True):
            for start in range(0, len(text) - 1, 217):
                session.prefill(text[start : min(start + 217, len(text) - 1)])
        batch = [StepToken(session, text[-1]) for session, text in zip(sessions, texts, strict=True)]
        found = model.step(batch)
        family, config = recognise(model.file)
        for text, logits in zip(texts, found, strict=True):
            frame = Frame(len(text), 1, config.vocab_size, 1, 4)
            frame.page_table[0] = np.arange(4)
            frame.fill(text, np.arange(len(text)), np.zeros(len(text), int), [len(text) - 1])
            program = family.build(Builder(model.file.tensors, 64), config, 1024)
            exact = ReferenceMachine(program, frame, kv_type="f32", quantize_activations=False).run()
            np.testing.assert_allclose(logits, exact[0], atol=2e-4)
