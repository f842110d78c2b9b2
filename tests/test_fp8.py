"""FP8 weights: all codes, the four granularities against a float model of the same values, and what is refused."""

import math

import numpy as np
import pytest
from fp8_files import fp8_model
from kernel_harness import Guarded, Machine, float_panels, pack, simple_frame
from model_files import relative_rms, with_metadata, with_tensor, without_tensor

import edgellama
from bench.perturb import copy_model
from edgellama import fp8
from edgellama.compiler import load_kernels
from edgellama.cpu.layout import unpacked_scratch_bytes
from edgellama.errors import ModelError
from edgellama.gguf import open_gguf
from edgellama.ops import MATMUL, STORE
from edgellama.reference import ReferenceMachine

FORMS = [(kind, granularity) for kind in fp8.FORMATS for granularity in fp8.GRANULARITIES]
IDS = np.random.default_rng(0).integers(3, 500, 40).tolist()


def code_value(code: int, exponent_bits: int, mantissa_bits: int) -> float:
    """A code's value from its bits, as the format's definition says."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = code >> mantissa_bits & (1 << exponent_bits) - 1, code & (1 << mantissa_bits) - 1
    bias = (1 << exponent_bits - 1) - 1
    if exponent_bits == 5 and exponent == 31:
        return math.nan if mantissa else sign * math.inf
    if exponent_bits == 4 and code & 0x7F == 0x7F:
        return math.nan
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)


@pytest.mark.parametrize(("kind", "bits"), [("e4m3", (4, 3)), ("e5m2", (5, 2))])
def test_all_codes(kind, bits):
    expected = [code_value(code, *bits) for code in range(256)]
    np.testing.assert_array_equal(fp8.values(kind), np.float32(expected))
    assert np.nanmax(np.where(np.isfinite(expected), expected, 0)) == {"e4m3": 448, "e5m2": 57344}[kind]


@pytest.fixture(scope="module")
def models(synthetic_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp8")
    source = synthetic_model("f16")
    return {form: fp8_model(source, folder / f"{form[0]}-{form[1]}.gguf", *form) for form in FORMS}


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_logits_are_those_of_the_decoded_weights(models, form):
    """The reference multiplies code * scale in float32, and so do the kernels."""
    with edgellama.load(models[form], kv_type="f32", threads=2) as model:
        found = model.logits(IDS)
        assert model.file.tensors["blk.0.ffn_up.weight"].type_name == f"fp8_{form[0]}"
        reference = ReferenceMachine(model.machine.program, model.frame, kv_type="f32")
        model.pages.reserve(0, len(IDS))
        model.frame.fill(np.array(IDS), np.arange(len(IDS)), np.zeros(len(IDS), int), np.arange(len(IDS)))
        assert relative_rms(found, reference.run()) < 1e-5
        one_by_one = []
        with model.new_session() as session:
            one_by_one = [session.decode(token) for token in IDS]
        np.testing.assert_array_equal(one_by_one, found)  # one row of activations or many: the same bits


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_the_model_stays_what_it_was(models, form, synthetic_model):
    """Rounding errors of the format, and no more: E4M3 keeps 3 bits of mantissa, E5M2 two."""
    with edgellama.load(synthetic_model("f16")) as exact, edgellama.load(models[form], repack=False) as rounded:
        error = relative_rms(rounded.logits(IDS), exact.logits(IDS))
    assert 0.003 < error < {"e4m3": 0.09, "e5m2": 0.18}[form[0]]


def test_results_do_not_depend_on_threads(models):
    path = models["e4m3", "block"]
    with edgellama.load(path, threads=1) as one, edgellama.load(path, threads=2) as two:
        np.testing.assert_array_equal(one.logits(IDS), two.logits(IDS))


UP = "blk.1.ffn_up.weight"


def set_code(code: int):
    def change(data):
        data = data.view(np.uint8)
        data.reshape(-1)[1234] = code
        return data.view(np.int8)

    return change


def set_scale(value: float):
    def change(data):
        data.reshape(-1)[0] = value
        return data

    return change


DAMAGES = {
    "NaN code": (with_tensor(UP, set_code(0x7F)), f"tensor '{UP}' holds an FP8 code that is no finite number"),
    "negative NaN": (with_tensor(UP, set_code(0xFF)), f"tensor '{UP}' holds an FP8 code that is no finite number"),
    "NaN scale": (with_tensor(fp8.scale_name(UP), set_scale(math.nan)), "holds a scale that is not finite"),
    "infinite scale": (with_tensor(fp8.scale_name(UP), set_scale(math.inf)), "holds a scale that is not finite"),
    "no scale": (without_tensor(fp8.scale_name(UP)), "'blk.1.ffn_up.edgellama_fp8_scale' is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights(models, tmp_path, damage):
    change, sentence = DAMAGES[damage]
    path = copy_model(models["e4m3", "row"], tmp_path / "damaged.gguf", change)
    with pytest.raises(ModelError, match=sentence):
        edgellama.load(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("version", 2, "must be an integer from 1 to 1"),
        ("format", "e3m4", "must be one of e4m3, e5m2, and is 'e3m4'"),
        ("granularity", "column", "must be one of tensor, row, block, run"),
        ("granularity", "block", "must be f32 of the shape"),
    ],
)
def test_keys_that_make_no_sense(models, tmp_path, key, value, sentence):
    path = with_metadata(models["e4m3", "row"], tmp_path / "odd.gguf", **{f"edgellama__fp8__{key}": value})
    with pytest.raises(ModelError, match=sentence):
        edgellama.load(path)


def test_columns_come_in_fours(models, tmp_path):
    """Kernels read four codes of a row at once."""
    narrow = copy_model(models["e4m3", "row"], tmp_path / "narrow.gguf", with_tensor(UP, lambda codes: codes[:, :-2]))
    with open_gguf(narrow) as file, pytest.raises(ModelError, match=f"'{UP}' has .* not a multiple of 4"):
        fp8.join_scales(file)


@pytest.mark.parametrize("magnitude", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("n_tokens", [1, 7])
@pytest.mark.parametrize("kind", fp8.FORMATS)
def test_products_of_all_codes(kind, n_tokens, magnitude):
    """Subnormal codes too, rows and runs of columns that fill no group, and activations of any size."""
    kernels, (n_rows, n_columns), n_runs = load_kernels(), (33, 260), 3
    random = np.random.default_rng(1)
    codes = random.choice(np.flatnonzero(np.isfinite(fp8.values(kind))), (n_rows, n_columns)).astype(np.uint8)
    scales = random.uniform(0.5, 2, (n_rows, n_runs)).astype(np.float32)
    x = Guarded.of(random.standard_normal((n_tokens, n_columns), dtype=np.float32) * np.float32(magnitude))
    packed_codes, out = pack(kernels, f"fp8_{kind}", codes), Guarded((n_tokens, n_rows))
    grouped = np.zeros((2, 32, n_runs), np.float32)
    grouped.reshape(64, n_runs)[:n_rows] = scales
    weight = Guarded.of(np.concatenate([packed_codes.values, grouped.transpose(0, 2, 1).reshape(-1).view(np.uint8)]))
    machine = Machine(kernels, simple_frame(n_tokens), 2, unpacked_scratch_bytes(n_columns, 12, floats=True))
    operands = {"weight": weight, "x": float_panels(kernels, x), "out": out, "bias": None}
    sizes = {"n_rows": n_rows, "n_columns": n_columns, "pitch": n_rows, "mode": STORE, "row_bytes": n_columns}
    names = (f"matvec_fp8_{kind}", "gemm_fp8", "gemm_fp8")
    machine.run(
        machine.bind(MATMUL, operands, sizes | {"scale_columns": fp8.BLOCK}, kernels=names, helper=f"unpack_fp8_{kind}")
    )
    weights = fp8.values(kind)[codes] * np.repeat(scales.astype(np.float64), fp8.BLOCK, 1)[:, :n_columns]
    wanted = x.values.astype(np.float64) @ weights.T
    bound = n_columns * 2.0**-23 * (np.abs(x.values).astype(np.float64) @ np.abs(weights.T))
    assert (np.abs(out.check() - wanted) <= bound).all()


def test_without_the_keys_codes_are_no_weights(models, tmp_path):
    path = with_metadata(models["e4m3", "row"], tmp_path / "plain.gguf", edgellama__fp8__version=None)
    with pytest.raises(ModelError, match="type i8, which holds no weights"):
        edgellama.load(path)


def test_files_without_fp8_stay_as_they_are(synthetic_model):
    with open_gguf(synthetic_model("q4_0")) as file:
        before = dict(file.tensors)
        fp8.join_scales(file)
        assert file.tensors == before
