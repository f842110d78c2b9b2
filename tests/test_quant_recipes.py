"""Recipes choose the types that llama-quantize chooses."""

import re
from types import SimpleNamespace

import pytest
from gguf_builder import ARRAY, UINT32, llama_file

from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf
from quant.encoders import WRITABLE
from quant.recipes import ALIASES, RECIPES, recipe_named
from quant.tensor_roles import ModelFacts, is_quantized, model_facts, role_of
from quant.type_choice import FALLBACK, TypeOptions, choose_types, fallback, without_importance

# What llama.cpp (llama-cpp-python 0.3.36) made of F16 models by recipe: the matrices that differ from its main type.
# 24 layers, four query heads for a key-value head
DENSE = {
    "Q8_0": "",
    "Q6_K": "",
    "Q5_K_M": "attn_v q6_k 0-2,5,8,11,14,17,20-23; ffn_down q6_k 0-2,5,8,11,14,17,20-23; output q6_k",
    "Q5_K_S": "output q6_k",
    "Q5_1": "output q6_k",
    "Q5_0": "output q6_k",
    "Q4_K_M": "attn_v q6_k 0-2,5,8,11,14,17,20-23; ffn_down q6_k 0-2,5,8,11,14,17,20-23; output q6_k",
    "Q4_K_S": "attn_v q5_k 0-3; ffn_down q5_k 0-2; output q6_k",
    "Q4_1": "output q6_k",
    "Q4_0": "output q6_k",
    "IQ4_NL": "attn_v q5_k; ffn_down q5_k 0-2; output q6_k",
    "IQ4_XS": "attn_v q5_k; ffn_down q5_k 0-2; output q6_k",
    "Q3_K_L": "attn_output q5_k; attn_v q5_k; ffn_down q5_k; output q6_k",
    "Q3_K_M": "attn_output q4_k; attn_v q4_k 2-23; attn_v q5_k 0-1; ffn_down q4_k 1-23; ffn_down q5_k 0; output q6_k",
    "Q3_K_S": "output q6_k",
    "IQ3_M": "attn_output q4_k; attn_v q4_k; ffn_down q4_k 0-2; output q6_k",
    "IQ3_S": "attn_v q4_k; output q6_k",
    "Q2_K": "attn_output q3_k; attn_v q4_k; ffn_down q3_k; output q6_k",
    "TQ1_0": "output q6_k; token_embd q4_k",
    "TQ2_0": "output q6_k; token_embd q4_k",
    "MXFP4_MOE": (
        "attn_k q8_0; attn_output q8_0; attn_q q8_0; attn_v q8_0; ffn_down q8_0; ffn_gate q8_0; ffn_up q8_0; "
        "output q8_0; token_embd q8_0"
    ),
}
# the same with an importance matrix
DENSE_WITH_IMPORTANCE = {
    "Q4_0": "ffn_down q4_1 0-2; output q6_k",
    "Q5_0": "ffn_down q5_1 0-2; output q6_k",
    "IQ4_NL": "attn_v q5_k; output q6_k",
    "IQ3_XS": "attn_k iq3_xxs; attn_q iq3_xxs; attn_v q4_k; ffn_gate iq3_xxs 3-20; ffn_up iq3_xxs 3-20; output q6_k",
    "IQ3_XXS": "attn_k iq2_s; attn_output iq3_s; attn_q iq2_s; attn_v q4_k; output q5_k; token_embd iq3_s",
    "Q2_K_S": "attn_v q4_k; ffn_down q4_k 0-2; output q6_k",
    "IQ2_M": "attn_output iq3_s; attn_v q4_k; ffn_down iq3_s 0-2; output q5_k; token_embd iq3_s",
    "IQ2_S": "attn_output iq3_s; attn_v q4_k; ffn_down iq3_s 0-2; output q5_k; token_embd iq3_s",
    "IQ2_XS": "attn_v q4_k; ffn_down q2_k 0-2; output q5_k; token_embd q2_k",
    "IQ2_XXS": "attn_v q4_k; ffn_down q2_k 0-2; output q5_k; token_embd q2_k",
    "IQ1_M": "attn_output iq2_xxs; attn_v q4_k; ffn_down q2_k 0-2; output q5_k; token_embd q2_k",
    "IQ1_S": "attn_output iq2_xxs; attn_v q4_k; ffn_down q2_k 0-2; output q5_k; token_embd q2_k",
}
# 8 layers, 8 experts, as many key-value heads as query heads
EXPERTS = {
    "Q8_0": "",
    "Q6_K": "attn_k q8_0; attn_v q8_0",
    "Q5_K_M": "attn_k q8_0; attn_v q8_0; ffn_down_exps q6_k 0,3,6-7; output q6_k",
    "Q5_K_S": "attn_k q8_0; attn_v q8_0; output q6_k",
    "Q5_1": "attn_k q8_0; attn_v q8_0; output q6_k",
    "Q5_0": "attn_k q8_0; attn_v q8_0; output q6_k",
    "Q4_K_M": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q6_k 0,3,6-7; output q6_k",
    "Q4_K_S": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q5_k 0; output q6_k",
    "Q4_1": "attn_k q8_0; attn_v q8_0; output q6_k",
    "Q4_0": "attn_k q8_0; attn_v q8_0; output q6_k",
    "IQ4_NL": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q5_k 0; output q6_k",
    "IQ4_XS": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q5_k 0; output q6_k",
    "Q3_K_L": "attn_k q8_0; attn_v q8_0; ffn_down_exps q5_k; output q6_k",
    "Q3_K_M": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q4_k; output q6_k",
    "Q3_K_S": "attn_k q8_0; attn_output q5_k; attn_v q8_0; output q6_k",
    "IQ3_M": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q4_k 0,3,6-7; output q6_k",
    "IQ3_S": "attn_k q8_0; attn_output q5_k; attn_v q8_0; output q6_k",
    "Q2_K": "attn_k q8_0; attn_output q5_k; attn_v q8_0; ffn_down_exps q3_k; output q6_k",
    "TQ1_0": "attn_k q8_0; attn_v q8_0; output q6_k; token_embd q4_k",
    "TQ2_0": "attn_k q8_0; attn_v q8_0; output q6_k; token_embd q4_k",
    "MXFP4_MOE": "attn_k q8_0; attn_output q8_0; attn_q q8_0; attn_v q8_0; output q8_0; token_embd q8_0",
}
# the same with an importance matrix
EXPERTS_WITH_IMPORTANCE = {
    "Q4_0": "attn_k q8_0; attn_v q8_0; ffn_down_exps q4_1 0; output q6_k",
    "Q5_0": "attn_k q8_0; attn_v q8_0; ffn_down_exps q5_1 0; output q6_k",
    "IQ4_NL": "attn_k q8_0; attn_output q5_k; attn_v q8_0; output q6_k",
    "IQ3_XS": (
        "attn_k q8_0; attn_output q5_k; attn_q iq3_xxs; attn_v q8_0; ffn_gate_exps iq3_xxs 1-6; ffn_up_exps "
        "iq3_xxs 1-6; output q6_k"
    ),
    "IQ3_XXS": "attn_k q8_0; attn_output q5_k; attn_q iq2_s; attn_v q8_0; output q5_k; token_embd iq3_s",
    "Q2_K_S": "attn_k q8_0; attn_v q8_0; ffn_down_exps q4_k 0; output q6_k",
    "IQ2_M": "attn_k q4_k; attn_output q5_k; attn_v q4_k; ffn_down_exps iq3_s 0; output q5_k; token_embd iq3_s",
    "IQ2_S": "attn_k q4_k; attn_output q5_k; attn_v q4_k; ffn_down_exps iq3_s 0; output q5_k; token_embd iq3_s",
    "IQ2_XS": "attn_k q4_k; attn_output q5_k; attn_v q4_k; ffn_down_exps q2_k 0; output q5_k; token_embd q2_k",
    "IQ2_XXS": "attn_k q4_k; attn_output q5_k; attn_v q4_k; ffn_down_exps q2_k 0; output q5_k; token_embd q2_k",
    "IQ1_M": "attn_k q4_k; attn_output q5_k; attn_v q4_k; ffn_down_exps q2_k 0; output q5_k; token_embd q2_k",
    "IQ1_S": "attn_k q4_k; attn_output q5_k; attn_v q4_k; ffn_down_exps q2_k 0; output q5_k; token_embd q2_k",
}
# 80 layers, two query heads for a key-value head
LARGE = {
    "Q2_K": "attn_output q3_k; attn_v q5_k; ffn_down q3_k; output q6_k",
    "Q3_K_M": "attn_output q4_k; attn_v q5_k; ffn_down q4_k 5-79; ffn_down q5_k 0-4; output q6_k",
    "Q3_K_S": "attn_v q5_k; output q6_k",
    "Q4_K_M": (
        "attn_v q5_k 10-11,13-14,16-17,19-20,22-23,25-26,28-29,31-32,34-35,37-38,40-41,43-44,46-47,49-50,"
        "52-53,55-56,58-59,61-62,64-65,67-68; attn_v q6_k 0-9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,"
        "57,60,63,66,69-79; ffn_down q6_k 0-9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57,60,63,66,69-79;"
        " output q6_k"
    ),
    "Q4_K_S": "attn_v q5_k; ffn_down q5_k 0-9; output q6_k",
    "IQ4_XS": "ffn_down q5_k 0-9; output q6_k",
    "Q5_K_M": (
        "attn_v q6_k 0-9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57,60,63,66,69-79; ffn_down q6_k 0-9,"
        "12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57,60,63,66,69-79; output q6_k"
    ),
    "IQ3_S": "output q6_k",
}
CASES = [
    *((name, (24, 4, 0, False), text) for name, text in DENSE.items()),
    *((name, (24, 4, 0, True), text) for name, text in DENSE_WITH_IMPORTANCE.items()),
    *((name, (8, 1, 8, False), text) for name, text in EXPERTS.items()),
    *((name, (8, 1, 8, True), text) for name, text in EXPERTS_WITH_IMPORTANCE.items()),
    *((name, (80, 2, 0, False), text) for name, text in LARGE.items()),
]
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")


def facts(n_layers: int, n_query_per_kv_head: int, n_experts: int, has_importance: bool) -> ModelFacts:
    is_70b = n_layers == 80 and n_query_per_kv_head > 1
    return ModelFacts(n_layers, n_query_per_kv_head, n_experts, is_70b, False, n_layers, has_importance)


def tensors_of(model: ModelFacts) -> list[SimpleNamespace]:
    """Norms and matrices of 256 columns, in no helpful order."""
    stack = (model.n_experts,) if model.n_experts else ()
    suffix = "_exps" if model.n_experts else ""
    roles = [(role, (256, 256)) for role in ATTENTION]
    roles += [(f"ffn_{part}{suffix}", (*stack, 256, 256)) for part in ("gate", "up", "down")]
    roles += [("attn_norm", (256,)), ("ffn_norm", (256,))]
    if model.n_experts:
        roles.append(("ffn_gate_inp", (model.n_experts, 256)))
    shapes = {f"blk.{layer}.{role}": shape for layer in reversed(range(model.n_layers)) for role, shape in roles}
    shapes |= {"output": (64, 256), "token_embd": (64, 256), "output_norm": (256,)}
    return [SimpleNamespace(name=f"{name}.weight", shape=shape, type_name="f16") for name, shape in shapes.items()]


def expected_types(text: str, main: str, tensors: list[SimpleNamespace]) -> dict[str, str]:
    """`text`: "role type layers; ...", with all layers where none are given."""
    types = {}
    for tensor in tensors:
        kept = "norm" in tensor.name or "gate_inp" in tensor.name
        types[tensor.name] = "f16" if kept else main
    for part in filter(None, text.split("; ")):
        role, type_name, *layers = part.split()
        for name in types:
            match = re.fullmatch(rf"(?:blk\.(\d+)\.)?{role}\.weight", name)
            if match and (not layers or int(match[1]) in layer_set(layers[0])):
                types[name] = type_name
    return types


def layer_set(text: str) -> set[int]:
    """'0-2,5' is 0, 1, 2 and 5."""
    ranges = [part.partition("-") for part in text.split(",")]
    return {layer for first, _, last in ranges for layer in range(int(first), int(last or first) + 1)}


@pytest.mark.parametrize(("name", "model", "text"), CASES, ids=[f"{name}-{model}" for name, model, _ in CASES])
def test_types_are_those_of_llama_quantize(name, model, text):
    model = facts(*model)
    tensors, recipe = tensors_of(model), recipe_named(name)
    assert choose_types(tensors, model, recipe) == expected_types(text, recipe.type_name, tensors)


def test_types_of_real_files(shared_data):
    """Every file of the folder: rows of 64, 172, 256 and 768 columns, tied and not, with and without importance."""
    paths = sorted((shared_data / "quantized").glob("*/*.gguf"))
    assert len(paths) > 20
    for path in paths:
        with open_gguf(path) as file:
            model = model_facts(file, "quantize.imatrix.file" in file.metadata)
            recipe = recipe_named(path.stem)
            tensors = file.tensors.values()
            found = {tensor.name: tensor.type_name for tensor in tensors}
            assert choose_types(tensors, model, recipe) == found, path
            assert file.metadata["general.file_type"] == recipe.file_type, path


def test_facts_of_a_model(synthetic_model, tmp_path):
    with open_gguf(synthetic_model("F16")) as file:
        model = model_facts(file, has_importance=True)
    assert model == ModelFacts(2, 4, 0, False, False, 2, True)
    keys = {"llama.expert_count": (UINT32, 8), "llama.attention.head_count_kv": (ARRAY, (UINT32, [1, 4]))}
    (tmp_path / "m.gguf").write_bytes(llama_file(**keys))
    with open_gguf(tmp_path / "m.gguf") as file:
        model = model_facts(file, has_importance=False)
    # the first layer's heads count, and no output matrix means that the embedding is tied
    assert model == ModelFacts(2, 4, 8, False, True, 0, False)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("output.weight", "output"),
        ("blk.3.attn_output.weight", "attn_output"),
        ("blk.0.attn_qkv.weight", "attn_v"),
        ("blk.0.attn_kv_b.weight", "attn_v"),
        ("blk.10.ffn_down_exps.weight", "ffn_down"),
        ("blk.10.ffn_gate_up.weight", "ffn_gate"),
        ("token_embd.weight", "token_embd"),
        ("blk.0.ssm_in.weight", "other"),
    ],
)
def test_roles(name, role):
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blk.0.attn_q.weight", (4, 256), True),
        ("blk.0.attn_q.bias", (4, 256), False),
        ("blk.0.attn_q.weight", (256,), False),
        ("blk.0.attn_q.weight", (1, 256), False),  # a vector with a dimension of one
        ("blk.0.attn_q_norm.weight", (4, 256), False),
        ("blk.0.ffn_gate_inp.weight", (8, 256), False),
        ("blk.0.ffn_gate_exps.weight", (8, 4, 256), True),
    ],
)
def test_what_a_recipe_may_change(name, shape, expected):
    assert is_quantized(name, shape) is expected


def test_every_recipe_has_known_types_and_its_own_number():
    for recipe in RECIPES.values():
        assert recipe.type_name in WRITABLE
    numbers = [recipe.file_type for name, recipe in RECIPES.items() if name not in ("MXFP4", "FP8")]
    assert len(set(numbers)) == len(numbers)


def test_names_in_any_case_and_aliases():
    assert recipe_named("q4_k_m") is RECIPES["Q4_K_M"]
    for alias, name in ALIASES.items():
        assert recipe_named(alias.lower()) is RECIPES[name]
    with pytest.raises(EdgellamaError, match=r"'Q9' is no type to quantize to; choose one of F32, .*Q4_K_M"):
        recipe_named("Q9")


@pytest.mark.parametrize("type_name", FALLBACK)
def test_rows_that_do_not_fit_fall_back(type_name):
    assert fallback(type_name, 512) == type_name
    assert fallback(type_name, 96) == FALLBACK[type_name]
    assert fallback(type_name, 172) == "f16"
    assert formats.by_name(FALLBACK[type_name]).block_values == 32


def test_options():
    model = facts(4, 1, 0, False)
    tensors, recipe = tensors_of(model), recipe_named("Q4_K_M")

    def chosen(**options) -> dict[str, str]:
        return choose_types(tensors, model, recipe, TypeOptions(**options))

    assert set(chosen(pure=True).values()) == {"q4_k", "f16"}
    types = chosen(output="f16", token_embedding="q8_0")
    assert (types["output.weight"], types["token_embd.weight"]) == ("f16", "q8_0")
    types = chosen(overrides=((re.compile("attn_v"), "q8_0"), (re.compile(r"\.1\.attn"), "q5_k")))
    assert [types[f"blk.1.{role}.weight"] for role in ATTENTION] == ["q5_k", "q5_k", "q8_0", "q5_k"]
    assert types["blk.0.attn_q.weight"] == "q4_k" and types["blk.1.attn_norm.weight"] == "f16"


def test_tied_embeddings_take_the_type_of_the_output():
    model = ModelFacts(4, 1, 0, False, True, 4, False)
    tensors = [tensor for tensor in tensors_of(model) if tensor.name != "output.weight"]
    assert choose_types(tensors, model, recipe_named("Q4_0"))["token_embd.weight"] == "q6_k"
    options = TypeOptions(output="q8_0")
    assert choose_types(tensors, model, recipe_named("Q4_0"), options)["token_embd.weight"] == "q8_0"


def test_what_needs_importance():
    types = {"token_embd.weight": "iq2_s", "blk.0.attn_q.weight": "iq2_s", "blk.0.attn_k.weight": "q2_k"}
    assert without_importance(types) == ["blk.0.attn_q.weight"]
