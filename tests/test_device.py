"""edgellama.device: CPU trees of several machines, written out by hand; thread choice; settings that survive damage."""

import json
from pathlib import Path

import pytest

from edgellama import device, system
from edgellama.device import Cache, DeviceSettings, LogicalCpu


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


@pytest.fixture(autouse=True)
def no_quota(monkeypatch):
    monkeypatch.setattr(system, "default_worker_limit", lambda: 64)


@pytest.mark.parametrize(
    ("text", "expected"), [("0-3,8,10-11\n", (0, 1, 2, 3, 8, 10, 11)), ("5", (5,)), ("", ()), ("\n", ())]
)
def test_parse_cpu_list(text, expected):
    assert device.parse_cpu_list(text) == expected


@pytest.mark.parametrize(
    ("usable", "expected"), [((0, 1, 2, 3), 2), ((0, 2), 1), ((0, 1), 2), ((1, 2, 3), 2), ((3,), 1), ((), 1)]
)
def test_threads_are_physical_cores_within_affinity(laptop, usable, expected):
    assert device.default_thread_count(device.read_topology(laptop), usable) == expected


@pytest.mark.parametrize(("usable", "expected"), [(range(7), 3), (range(4), 4), ((0, 1, 4), 1), ((3, 5, 6), 2)])
def test_little_cores_are_left_out_beside_big_ones(phone, usable, expected):
    assert device.default_thread_count(device.read_topology(phone), usable) == expected


def test_quota_bounds_threads(laptop, monkeypatch):
    monkeypatch.setattr(system, "default_worker_limit", lambda: 1)
    assert device.default_thread_count(device.read_topology(laptop), range(4)) == 1


def test_two_packages_with_equal_core_ids(tmp_path):
    cpus = {0: topology_files(0, "0", 0), 1: topology_files(0, "1", 1)}
    assert device.fast_core_count(device.read_topology(write_tree(tmp_path / "server", cpus)), [0, 1]) == 2


def test_cores_without_topology_files(tmp_path):
    root = write_tree(tmp_path / "bare", {0: {}, 1: {}})
    assert device.read_topology(root).cpus == (LogicalCpu(0, (0, 0)), LogicalCpu(1, (0, 1)))


def test_machine_without_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "usable_cpus", lambda: [0, 1, 2])
    topology = device.read_topology(tmp_path / "absent")
    assert device.default_thread_count(topology) == 3
    assert topology.caches == () and topology.cache_bytes(2) is None


def test_shared_cache_counts_once(tmp_path):
    cache = {"level": "3", "type": "Unified", "size": "32768K", "shared_cpu_list": "0-1"}
    root = write_tree(tmp_path / "c", {i: topology_files(i, str(i)) for i in (0, 1)}, {0: cache, 1: cache})
    topology = device.read_topology(root)
    assert topology.caches == (Cache(3, "Unified", 32 << 20, (0, 1)),)
    assert topology.cache_bytes(3) == 32 << 20


@pytest.mark.parametrize(("text", "expected"), [("48K", 48 << 10), ("2M", 2 << 20), ("512", 512), ("", 0), ("?K", 0)])
def test_cache_size_units(tmp_path, text, expected):
    cache = {"level": "1", "type": "Data", "size": text, "shared_cpu_list": "0"}
    root = write_tree(tmp_path / "c", {0: topology_files(0, "0")}, {0: cache})
    assert device.read_topology(root).cache_bytes(1) == expected


def test_this_machine():
    topology = device.read_topology()
    assert 1 <= device.default_thread_count(topology) <= len(system.usable_cpus())
    assert device.cpu_model()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nmodel name\t: Some CPU @ 3: fast\nmodel name : other\n", "Some CPU @ 3: fast"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n", "Arm implementer 0x41 part 0xd0b"),
    ],
)
def test_cpu_model(tmp_path, text, expected):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text)
    assert device.cpu_model(tmp_path) == expected


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGELLAMA_CACHE", str(folder))
    return folder


def test_settings_round_trip_beside_other_devices(cache):
    assert device.load_settings("a") == DeviceSettings()
    assert device.save_settings(DeviceSettings(2), "a")
    assert device.save_settings(DeviceSettings(decode_threads=8), "b")
    assert device.load_settings("a") == DeviceSettings(2)
    assert device.load_settings("b") == DeviceSettings(8)
    assert device.load_settings("c") == DeviceSettings()


def test_settings_of_this_device_follow_its_limit(cache, monkeypatch):
    assert device.save_settings(DeviceSettings(3))
    assert device.load_settings() == DeviceSettings(3)
    monkeypatch.setattr(system, "default_worker_limit", lambda: 2)
    assert device.load_settings() == DeviceSettings()


DAMAGED = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"version": 2, "devices": {"a": {"decode_threads": 2}}}',
    b'{"version": 1, "devices": []}',
    b'{"version": 1, "devices": {"a": 3}}',
    b'{"version": 1, "devices": {"a": {"decode_threads": 0}}}',
    b'{"version": 1, "devices": {"a": {"decode_threads": true}}}',
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_settings_are_ignored_and_mended(cache, content):
    cache.mkdir(mode=0o700)
    (cache / device.SETTINGS_NAME).write_bytes(content)
    assert device.load_settings("a") == DeviceSettings()
    assert device.save_settings(DeviceSettings(2), "a")
    assert device.load_settings("a") == DeviceSettings(2)


def test_one_bad_value_does_not_spoil_the_other(cache):
    cache.mkdir(mode=0o700)
    content = {"version": 1, "devices": {"a": {"decode_threads": 4, "later": "field"}}}
    (cache / device.SETTINGS_NAME).write_text(json.dumps(content))
    assert device.load_settings("a") == DeviceSettings(4)


def test_settings_that_cannot_be_written(cache, monkeypatch):
    def refuse(path, data):
        raise PermissionError("read-only")

    monkeypatch.setattr(system, "write_atomically", refuse)
    assert not device.save_settings(DeviceSettings(1), "a")
    monkeypatch.setattr(system, "cache_folder", lambda: None)
    assert not device.save_settings(DeviceSettings(1), "a")
    assert device.load_settings("a") == DeviceSettings()


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 10.0, 2: 18.0, 4: 30.0}, 4),
        ({1: 10.0, 2: 20.0, 4: 20.5}, 2),  # 2.5 % more is not worth two cores
        ({1: 10.0, 2: 9.0}, 1),
        ({3: 1.0}, 3),
    ],
)
def test_the_fastest_count(rates, expected):
    assert device.fastest({count: [rate, rate, 100 * rate] for count, rate in reversed(rates.items())}) == expected


@pytest.mark.parametrize(
    ("n_cores", "siblings", "expected"),
    [(1, 1, [1]), (2, 1, [1, 2]), (4, 2, [2, 4, 8]), (8, 1, [4, 8])],
)
def test_candidates_are_half_and_all_cores_and_all_cpus(monkeypatch, n_cores, siblings, expected):
    cpus = [device.LogicalCpu(index, (0, index % n_cores)) for index in range(n_cores * siblings)]
    monkeypatch.setattr(system, "default_worker_limit", lambda: len(cpus))
    assert device.thread_candidates(device.Topology(tuple(cpus), ()), range(len(cpus))) == expected
