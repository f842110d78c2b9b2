"""The trained model as a Hugging Face folder, and from there to GGUF by the project's own converter."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor

from converters.conversion import ConvertOptions, plan_conversion, write_conversion

from .llama import Llama, Shape
from .vocabulary import BEGIN, END

# Phi-3's form, which other runtimes know too.
TEMPLATE = """{% for message in messages %}<|{{ message['role'] }}|>
{{ message['content'] }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""
NAME = "edgellama demo"
_AUTHOR = "the edgellama project"
_DESCRIPTION = (
    "A demo of 2.6 million parameters that comes with edgellama, trained from scratch on text that the project wrote:"
    " it chats about edgellama, tells tiny stories, and knows little else."
)


def write_checkpoint(folder: Path, model: Llama, vocabulary: SentencePieceProcessor, tokenizer: Path) -> None:
    """Write config.json, model.safetensors and the files of the tokenizer."""
    folder.mkdir(exist_ok=True)
    weights = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": vocabulary.piece_to_id(BEGIN), "eos_token_id": vocabulary.piece_to_id(END)}
    _write_json(folder / "config.json", _config(model.shape) | ids)
    tokens = {"bos_token": BEGIN, "eos_token": END, "add_bos_token": True, "add_eos_token": False}
    _write_json(folder / "tokenizer_config.json", tokens | {"chat_template": TEMPLATE})
    shutil.copy(tokenizer, folder / "tokenizer.model")


def write_gguf(checkpoint: Path, target: Path) -> None:
    """Convert the checkpoint to Q8_0, as `edgellama convert` does, with words about it in the metadata."""
    conversion = plan_conversion(checkpoint, ConvertOptions("q8_0", NAME))
    about = {"general.author": _AUTHOR, "general.description": _DESCRIPTION, "general.languages": ["en"]}
    write_conversion(replace(conversion, metadata={**about, **conversion.metadata}), target)


def _config(shape: Shape) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ffn,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
