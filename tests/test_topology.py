"""edgellama.topology: trees of CPUs, written out by hand."""

from pathlib import Path

import pytest

from edgellama import system
from edgellama import topology as cpus
from edgellama.placement import Placement, Places
from edgellama.topology import Cache, LogicalCpu, Topology, parse_cpu_list, read_topology


def write_tree(root: Path, cpus: dict[int, dict[str, str]], caches: dict[int, dict[str, str]] | None = None) -> Path:
    """A folder like /sys/devices/system/cpu: file contents for each CPU, and one cache for those that have one."""
    root.mkdir(exist_ok=True)
    (root / "online").write_text(",".join(map(str, cpus)) + "\n")
    for index, files in cpus.items():
        for name, text in files.items():
            path = root / f"cpu{index}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    for index, files in (caches or {}).items():
        folder = root / f"cpu{index}/cache/index0"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text + "\n")
    return root


def topology_files(core: int, siblings: str, package: int = 0, capacity: int | None = None) -> dict[str, str]:
    files = {
        "topology/core_id": str(core),
        "topology/physical_package_id": str(package),
        "topology/thread_siblings_list": siblings,
    }
    return files if capacity is None else files | {"cpu_capacity": str(capacity)}


@pytest.fixture
def laptop(tmp_path):
    """Two cores with two threads each, numbered as Intel does: 0 and 2 share a core."""
    return write_tree(tmp_path / "laptop", {i: topology_files(i % 2, f"{i % 2},{i % 2 + 2}") for i in range(4)})


@pytest.fixture
def phone(tmp_path):
    """Four little and two big and one prime core; core ids restart in each cluster, as some Arm kernels write them."""
    capacities = [250, 250, 250, 250, 760, 760, 1024]
    cpus = {i: topology_files(i % 4, str(i), capacity=c) for i, c in enumerate(capacities)}
    return write_tree(tmp_path / "phone", cpus)


def prefill_threads(topology, usable, limit=64):
    return Places.of(topology, usable, limit).prefill().threads


@pytest.mark.parametrize(
    ("text", "expected"), [("0-3,8,10-11\n", (0, 1, 2, 3, 8, 10, 11)), ("5", (5,)), ("", ()), ("\n", ())]
)
def test_parse_cpu_list(text, expected):
    assert parse_cpu_list(text) == expected


@pytest.mark.parametrize(
    ("usable", "expected"), [((0, 1, 2, 3), 2), ((0, 2), 1), ((0, 1), 2), ((1, 2, 3), 2), ((3,), 1), ((), 1)]
)
def test_threads_are_physical_cores_within_affinity(laptop, usable, expected):
    assert prefill_threads(read_topology(laptop), usable) == expected


@pytest.mark.parametrize(("usable", "expected"), [(range(7), 3), (range(4), 4), ((0, 1, 4), 1), ((3, 5, 6), 2)])
def test_little_cores_are_left_out_beside_big_ones(phone, usable, expected):
    assert prefill_threads(read_topology(phone), usable) == expected


def test_quota_bounds_threads(laptop):
    assert prefill_threads(read_topology(laptop), range(4), limit=1) == 1


def test_two_packages_with_equal_core_ids(tmp_path):
    cpus = {0: topology_files(0, "0", 0), 1: topology_files(0, "1", 1)}
    assert prefill_threads(read_topology(write_tree(tmp_path / "server", cpus)), [0, 1]) == 2


def test_cores_without_topology_files(tmp_path):
    root = write_tree(tmp_path / "bare", {0: {}, 1: {}})
    assert read_topology(root).cpus == (LogicalCpu(0, (0, 0)), LogicalCpu(1, (0, 1)))


def test_machine_without_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "usable_cpus", lambda: [0, 1, 2])
    topology = read_topology(tmp_path / "absent")
    assert prefill_threads(topology, range(3)) == 3
    assert topology.caches == () and topology.cache_bytes(2) is None


def test_shared_cache_counts_once(tmp_path):
    cache = {"level": "3", "type": "Unified", "size": "32768K", "shared_cpu_list": "0-1"}
    root = write_tree(tmp_path / "c", {i: topology_files(i, str(i)) for i in (0, 1)}, {0: cache, 1: cache})
    topology = read_topology(root)
    assert topology.caches == (Cache(3, "Unified", 32 << 20, (0, 1)),)
    assert topology.cache_bytes(3) == 32 << 20


@pytest.mark.parametrize(("text", "expected"), [("48K", 48 << 10), ("2M", 2 << 20), ("512", 512), ("", 0), ("?K", 0)])
def test_cache_size_units(tmp_path, text, expected):
    cache = {"level": "1", "type": "Data", "size": text, "shared_cpu_list": "0"}
    root = write_tree(tmp_path / "c", {0: topology_files(0, "0")}, {0: cache})
    assert read_topology(root).cache_bytes(1) == expected


def test_this_machine():
    usable = system.usable_cpus()
    assert 1 <= prefill_threads(read_topology(), usable) <= len(usable)
    assert sum(len(core.cpus) for group in read_topology().core_classes(usable) for core in group) == len(usable)


@pytest.mark.parametrize(
    ("n_cores", "siblings", "expected"),
    [(1, 1, [1]), (2, 1, [1, 2]), (4, 2, [2, 4, 8]), (8, 1, [4, 8])],
)
def test_candidates_are_half_and_all_cores_and_all_cpus(n_cores, siblings, expected):
    found = [LogicalCpu(index, (0, index % n_cores)) for index in range(n_cores * siblings)]
    places = Places.of(Topology(tuple(found), ()), range(len(found)), 64)
    assert places.decode_candidates() == [Placement(count) for count in expected]


@pytest.mark.parametrize(("names", "expected"), [(("core_cpus_list",), 1), (("thread_siblings_list",), 1), ((), 2)])
def test_siblings_have_two_names(tmp_path, names, expected):
    files = {i: {f"topology/{name}": "0-1" for name in names} | {"topology/core_id": str(i)} for i in (0, 1)}
    assert len(read_topology(write_tree(tmp_path / "smt", files)).cores([0, 1])) == expected


@pytest.mark.parametrize(
    ("numbers", "threads"),
    [
        ({"hw.physicalcpu": 8, "hw.perflevel0.physicalcpu": 4}, 4),  # an M1
        ({"hw.physicalcpu": 4}, 4),  # an Intel Mac with SMT
        ({}, 8),
    ],
)
def test_macos_tells_numbers_only(tmp_path, monkeypatch, numbers, threads):
    monkeypatch.setattr(cpus.sys, "platform", "darwin")
    monkeypatch.setattr(system, "usable_cpus", lambda: list(range(8)))
    monkeypatch.setattr(system, "sysctl_integer", numbers.get)
    monkeypatch.setattr(system, "can_place_threads", lambda: False)
    assert Places.of(read_topology(tmp_path), range(8), 8).prefill() == Placement(threads)


def test_cores_that_differ_by_their_turbo_bins_are_one_class(tmp_path):
    bins = [5_881_000, 5_759_000, 5_640_000, 5_521_000]
    tree = {i: topology_files(i, str(i)) | {"cpufreq/cpuinfo_max_freq": str(khz)} for i, khz in enumerate(bins)}
    assert len(read_topology(write_tree(tmp_path / "zen", tree)).core_classes(range(4))) == 1
