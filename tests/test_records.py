"""The position-independent table of a program: the same wherever it is made, and enough to find every kernel."""

import io

import numpy as np
import pytest

import edgellama
from edgellama import ops
from edgellama.cpu.machine import kernel_names
from edgellama.records import Unbinder


@pytest.fixture(scope="module")
def models(synthetic_model):
    path = synthetic_model("q4_k_m")
    with edgellama.load(path, threads=1) as first, edgellama.load(path, threads=2) as second:
        yield first, second


def records(model) -> np.ndarray:
    return Unbinder(model.machine.program, model.machine.buffer_offsets).records()


def test_two_loads_write_the_same_table_though_nothing_lies_in_the_same_place(models):
    first, second = models
    assert records(first).tobytes() == records(second).tobytes()
    assert (first.machine.bound["operands"] != second.machine.bound["operands"]).any()


def test_a_table_survives_a_file(models):
    table, file = records(models[0]), io.BytesIO()
    np.save(file, table)
    file.seek(0)
    np.testing.assert_array_equal(np.load(file), table)


def test_offsets_stay_inside_their_regions(models):
    machine, table = models[0].machine, records(models[0])
    limits = {
        ops.NONE: 1,
        ops.WEIGHT: len(machine.program.weights()),
        ops.CONSTANT: len(machine.program.constants()),
        ops.CACHE: 2 * machine.program.n_layers,
    }
    for region, limit in limits.items():
        offsets = table["offsets"][table["regions"] == region]
        assert ((offsets >= 0) & (offsets < limit)).all()


def test_every_record_names_kernels_that_exist(models):
    kernels = models[0].machine.kernels
    for record in records(models[0]):
        for name in kernel_names(ops.OPS[record["op"]].name, str(record["variant"])):
            assert not name or kernels.address(name)


def test_the_bound_table_is_the_unbound_one_with_addresses(models):
    table, bound = records(models[0]), models[0].machine.bound
    for field in ("extent", "integers", "floats"):
        np.testing.assert_array_equal(table[field], bound[field])
    assert ((bound["operands"] == 0) == (table["regions"] == ops.NONE)).all()


def test_a_name_means_one_op():
    assert [ops.CODES[spec.name] for spec in ops.OPS] == list(range(len(ops.OPS)))
    with pytest.raises(ValueError, match="two ops are called rmsnorm"):
        ops.OpSpec("rmsnorm", {}, ())
    assert ops.OPS[ops.CODES["rmsnorm"]] is ops.RMSNORM
