"""How many bytes per second this device reads from memory: measured once, then remembered."""

from dataclasses import replace

from edgellama import device
from edgellama.commands.progress import progress_line


def read_bytes_per_second() -> float | None:
    """With one thread for each fast core; None where the part that measures is not installed or cannot run."""
    settings = device.load_settings()
    if settings.read_bytes_per_second is None:
        measured = _measure()
        if measured is None:
            return None
        settings = replace(settings, read_bytes_per_second=measured)
        device.save_settings(settings)
    return settings.read_bytes_per_second


def _measure() -> float | None:
    from edgellama.errors import EdgellamaError

    with progress_line() as report:
        if report:
            report("measuring the speed of memory", 0, 1)
        try:
            from bench.limits import stream_bytes_per_second

            return float(stream_bytes_per_second(device.default_thread_count()))
        except (ImportError, EdgellamaError, MemoryError):  # ImportError also where another package is called bench
            return None
