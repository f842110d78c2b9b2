"""edgellama.device: the CPU's name, settings that survive damage, and which rate wins."""

import json

import pytest

from edgellama import device, system
from edgellama.device import DeviceSettings


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
    monkeypatch.setattr(system, "default_worker_limit", lambda: 64)
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
