"""Checkpoints written by hand: safetensors and PyTorch files, tiny Hugging Face, Meta and llama2.c models."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

Tensors = Mapping[str, np.ndarray]


# Number types. bfloat16 is the upper half of float32.


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits, cut off: tests use values that bfloat16 holds."""
    return (np.ascontiguousarray(values, "<f4").view("<u4") >> 16).astype("<u2")


def stored_bytes(values: np.ndarray, type_name: str) -> bytes:
    if type_name == "BF16":
        return to_bfloat16(values).tobytes()
    return values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[type_name]).tobytes()


# safetensors


def safetensors_bytes(tensors: Tensors, type_name: str = "F32") -> bytes:
    table, data = {}, b""
    for name, values in tensors.items():
        packed = stored_bytes(values, type_name)
        offsets = [len(data), len(data) + len(packed)]
        table[name] = {"dtype": type_name, "shape": list(values.shape), "data_offsets": offsets}
        data += packed
    return raw_safetensors(table, data)


def raw_safetensors(table: object, data: bytes = b"") -> bytes:
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data


# PyTorch files: a ZIP of a pickle, written opcode by opcode, and one member for each storage.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def integers(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def tensor_pickle(key: str, storage: str, shape, strides, n_values: int, offset: int = 0) -> bytes:
    """A call of _rebuild_tensor_v2 as torch.save writes it."""
    identity = b"(" + text("storage") + named("torch", storage) + text(key) + text("cpu") + integer(n_values) + b"tQ"
    hooks = named("collections", "OrderedDict") + b")R"
    arguments = b"(" + identity + integer(offset) + integers(shape) + integers(strides) + b"\x89" + hooks + b"t"
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def table_pickle(items: Mapping[str, bytes]) -> bytes:
    """Protocol 2, a dict of texts to pickled values."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in items.items()) + b"u."


STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "F64": "DoubleStorage"}


def torch_bytes(tensors: Tensors, type_name: str = "F32", transposed: bool = False) -> bytes:
    """`transposed`: matrices lie by columns and are seen through strides, behind seven values of nothing."""
    items, members = {}, {}
    for place, (name, values) in enumerate(tensors.items()):
        key, strided = str(place), transposed and values.ndim == 2
        junk = np.full(7, 77.0) if strided else np.empty(0)
        stored = np.concatenate([junk, (values.T if strided else values).reshape(-1)])
        strides = (1, values.shape[0]) if strided else tuple(s // values.itemsize for s in values.strides)
        items[name] = tensor_pickle(key, STORAGES[type_name], values.shape, strides, stored.size, len(junk))
        members[f"data/{key}"] = stored_bytes(stored, type_name)
    return torch_archive(table_pickle(items), members)


def torch_archive(pickled: bytes, members: Mapping[str, bytes] | None = None, compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for name, data in (members or {}).items():
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


class Payload:
    """Unpickling this with the standard library runs `call`."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def payload_pickle(call, *arguments, protocol: int = 2) -> bytes:
    return pickle.dumps({"model.embed_tokens.weight": Payload(call, *arguments)}, protocol=protocol)


# A tiny Llama in Hugging Face's form, with a byte-level vocabulary.

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "vocab_size": 300,
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 257,
}


def tensors_of(config: Mapping, seed: int = 3) -> dict[str, np.ndarray]:
    """Random weights by Hugging Face's names, of values that bfloat16 holds exactly."""
    d_model, d_ff, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    n_heads, n_kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or d_model // n_heads
    shapes = {"model.embed_tokens.weight": (vocab, d_model), "model.norm.weight": (d_model,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, d_model)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attention = {"q": (n_heads * head_dim, d_model), "k": (n_kv_heads * head_dim, d_model)}
        attention |= {"v": (n_kv_heads * head_dim, d_model), "o": (d_model, n_heads * head_dim)}
        matrices = {f"self_attn.{name}_proj": shape for name, shape in attention.items()}
        feed_forward = {"gate": (d_ff, d_model), "up": (d_ff, d_model), "down": (d_model, d_ff)}
        biased = set(matrices) if config.get("attention_bias") else set()
        matrices |= {f"mlp.{name}_proj": shape for name, shape in feed_forward.items()}
        biased |= {name for name in matrices if name.startswith("mlp.")} if config.get("mlp_bias") else set()
        shapes |= {f"{prefix}{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"{prefix}{name}.bias": matrices[name][:1] for name in sorted(biased)}
        shapes |= {f"{prefix}{name}.weight": (d_model,) for name in ("input_layernorm", "post_attention_layernorm")}
    random = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        gain = 1.5 / np.sqrt(shape[-1]) if len(shape) == 2 and "embed" not in name else 0.5
        values = random.standard_normal(shape) * gain + (1.0 if "norm" in name else 0.0)
        return (to_bfloat16(values).astype("<u4") << 16).view("<f4")

    return {name: draw(name, shape) for name, shape in shapes.items()}


def byte_tokens() -> list[str]:
    """GPT-2's spelling of the bytes 0 to 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def byte_level_json(**changes) -> dict:
    """A tokenizer.json of the bytes, <bos>, <eos>, and one merge ("ab", id 258)."""
    vocab = {token: index for index, token in enumerate(byte_tokens())} | {"ab": 258}
    added = [{"id": 256, "content": "<bos>", "special": True}, {"id": 257, "content": "<eos>", "special": True}]
    return {
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]], "byte_fallback": False},
    } | changes


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def write_tokenizer(folder: Path) -> None:
    write_json(folder / "tokenizer.json", byte_level_json())
    write_json(folder / "tokenizer_config.json", {"bos_token": "<bos>", "eos_token": "<eos>"})


def write_hugging_face(
    folder: Path, config: Mapping, tensors: Tensors, type_name: str = "F32", layout: str = "model.safetensors"
) -> Path:
    """A checkpoint folder; `layout`: the name of the weights' file, or "3 model.safetensors" for three shards."""
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)
    write_tokenizer(folder)
    n_shards, name = layout.split() if " " in layout else (1, layout)
    to_bytes = safetensors_bytes if name.endswith(".safetensors") else torch_bytes
    if n_shards == 1:
        (folder / name).write_bytes(to_bytes(tensors, type_name))
        return folder
    write_shards(folder, name, int(n_shards), tensors, lambda part: to_bytes(part, type_name))
    return folder


def write_shards(folder: Path, name: str, n_shards: int, tensors: Tensors, to_bytes) -> None:
    stem, dot, ending = name.rpartition(".")
    weight_map = {}
    for shard in range(n_shards):
        names = list(tensors)[shard::n_shards]
        file_name = f"{stem}-{shard + 1:05}-of-{n_shards:05}{dot}{ending}"
        (folder / file_name).write_bytes(to_bytes({tensor: tensors[tensor] for tensor in names}))
        weight_map |= dict.fromkeys(names, file_name)
    write_json(folder / f"{name}.index.json", {"metadata": {}, "weight_map": weight_map})


# Meta's names and layout, which llama2.c shares: the rows of a head are adjacent pairs.

META_NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def adjacent(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Row by row: pair i of a head is (i, i + head_dim / 2) at Hugging Face, (2 i, 2 i + 1) at Meta."""
    out = np.empty_like(rows)
    for head in range(0, len(rows), head_dim):
        for pair in range(head_dim // 2):
            out[head + 2 * pair] = rows[head + pair]
            out[head + 2 * pair + 1] = rows[head + pair + head_dim // 2]
    return out


def as_meta(config: Mapping, tensors: Tensors) -> dict[str, np.ndarray]:
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    found = {}
    for name, values in tensors.items():
        key = next(key for key in META_NAMES if key in name)
        short = name.removeprefix("model.") if ".layers." in name else name
        moved = adjacent(values, head_dim) if key.endswith(("q_proj", "k_proj")) else values
        found[short.replace(key, META_NAMES[key])] = moved
    return found


META_SPLIT = {"wq": 0, "wk": 0, "wv": 0, "wo": 1, "w1": 0, "w2": 1, "w3": 0, "output": 0}


def write_meta(folder: Path, config: Mapping, tensors: Tensors, n_parts: int, embedding_axis: int) -> Path:
    """params.json and consolidated.NN.pth for `n_parts` GPUs, with a tokenizer that both forms can read."""
    folder.mkdir(exist_ok=True)
    meta = as_meta(config, tensors)
    for part in range(n_parts):
        split = {}
        for name, values in meta.items():
            module = name.split(".")[-2]
            axis = embedding_axis if module == "tok_embeddings" else META_SPLIT.get(module)
            split[name] = values if axis is None else np.ascontiguousarray(np.split(values, n_parts, axis)[part])
        (folder / f"consolidated.{part:02}.pth").write_bytes(torch_bytes(split, "BF16"))
    params = {"dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "norm_eps": 1e-5}
    params |= {"n_heads": config["num_attention_heads"], "n_kv_heads": config["num_key_value_heads"]}
    write_json(folder / "params.json", params | {"vocab_size": -1, "multiple_of": 16, "rope_theta": 500.0})
    write_tokenizer(folder)
    return folder


def quantized_groups(values: np.ndarray, group: int) -> tuple[bytes, np.ndarray]:
    """llama2.c version 2: int8 codes of the flat tensor, then the scales; and what they decode to."""
    groups = values.reshape(-1, group)
    scales = (np.abs(groups).max(axis=1) / 127).astype("<f4")
    codes = np.round(groups / scales[:, None]).astype("i1")
    return codes.tobytes() + scales.tobytes(), (codes * scales[:, None]).astype("<f4").reshape(values.shape)


def llama2c_bytes(config: Mapping, tensors: Tensors, version: int, group: int = 16) -> tuple[bytes, dict]:
    """A file of llama2.c with BOS-free float32 rope tables, and the tensors it holds by Meta's names."""
    meta, n_layers = as_meta(config, tensors), config["num_hidden_layers"]
    sizes = [config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")]
    sizes += [config["num_key_value_heads"], config["vocab_size"], config["max_position_embeddings"]]
    shared = "output.weight" not in meta
    order = {"attention": ("wq", "wk", "wv", "wo"), "feed_forward": ("w1", "w2", "w3")}

    def layers(name: str) -> list[str]:
        return [f"layers.{layer}.{name}.weight" for layer in range(n_layers)]

    attention, forward = ([n for w in names for n in layers(f"{kind}.{w}")] for kind, names in order.items())
    output = [] if shared else ["output.weight"]
    if version == 0:
        sizes[5] *= 1 if shared else -1
        names = ["tok_embeddings.weight", *layers("attention_norm"), *attention, *layers("ffn_norm"), *forward]
        tables = np.zeros(sizes[6] * sizes[0] // sizes[3]).astype("<f4").tobytes()
        body = b"".join(meta[name].tobytes() for name in [*names, "norm.weight"]) + tables
        return struct.pack("<7i", *sizes) + body + b"".join(meta[name].tobytes() for name in output), meta
    head = b"24ka" + struct.pack("<8iB", version, *sizes, shared) + (struct.pack("<i", group) if version == 2 else b"")
    norms = [*layers("attention_norm"), *layers("ffn_norm"), "norm.weight"]
    body = b"".join(meta[name].tobytes() for name in norms)
    for name in ["tok_embeddings.weight", *attention, *forward, *output]:
        packed, decoded = quantized_groups(meta[name], group) if version == 2 else (meta[name].tobytes(), meta[name])
        body, meta[name] = body + packed, decoded
    return head.ljust(256, b"\0") + body, meta


def llama2c_tokenizer(n_tokens: int) -> bytes:
    """tokenizer.bin: <unk>, <s>, </s>, the bytes, then made-up words."""
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts += [f" w{number}" for number in range(n_tokens - len(texts))]
    rows = [struct.pack("<fi", -float(place), len(word)) + word.encode() for place, word in enumerate(texts)]
    return struct.pack("<i", max(map(len, texts))) + b"".join(rows)
