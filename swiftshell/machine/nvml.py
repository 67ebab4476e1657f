"""Read the GPUs from the driver's own library (NVML) through ctypes: no package needed, a few milliseconds a look."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any

from swiftshell.machine.gpu import Gpu, GpuProcess, ProcessKind

_LIBRARY = "libnvidia-ml.so.1"
_OK, _NOT_SUPPORTED, _TOO_SMALL = 0, 3, 7
_NO_VALUE = 2**64 - 1
_GIB = 1 << 30
_MOST_PROCESSES = 1024


class _Memory(ctypes.Structure):
    """nvmlMemory_t: what the driver itself keeps back counts as used."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Memory2(ctypes.Structure):
    """nvmlMemory_v2_t: what the driver keeps back is told apart."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Process(ctypes.Structure):
    """nvmlProcessInfo_t as the functions of version 3 fill it."""

    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    ]


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent of the last second."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def is_installed() -> bool:
    """Tell whether the library can be loaded."""
    return _library() is not None


@cache
def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def read() -> list[Gpu] | None:
    """Return the GPUs, or None if the driver does not answer. The library stays open: waking the driver costs most."""
    library = _library()
    if library is None or not _initialised(library, os.getpid()):
        return None
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _OK:
        return None
    driver = _text(library, "nvmlSystemGetDriverVersion")
    found = [_gpu(library, index, driver) for index in range(count.value)]
    return [gpu for gpu in found if gpu is not None] if all(found) else None


@cache
def _initialised(library: ctypes.CDLL, pid: int) -> bool:
    """Open the driver once a process (`pid` is there for the cache: a fork does not inherit it)."""
    return bool(library.nvmlInit_v2() == _OK)


def _gpu(library: ctypes.CDLL, index: int, driver: str) -> Gpu | None:
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != _OK:
        return None  # off the bus: the others' order cannot be trusted either
    uuid = _text(library, "nvmlDeviceGetUUID", handle)
    memory, compute = _memory(library, handle), _processes(library, "Compute", handle)
    graphics = _processes(library, "Graphics", handle) or ()
    missing = [name for name, value in (("memory", memory), ("processes", compute)) if value is None]
    total, used = memory or (0, 0)
    return Gpu(
        index=index,
        uuid=uuid,
        name=_text(library, "nvmlDeviceGetName", handle),
        memory_gib=total / _GIB,
        used_gib=used / _GIB,
        driver=driver,
        processes=(*(compute or ()), *graphics),
        busy_percent=_busy(library, handle),
        mig=_mig(library, handle),
        fault=f"NVML: {', '.join(missing)}" if missing else "",
    )


def _text(library: ctypes.CDLL, function: str, *before: Any) -> str:
    buffer = ctypes.create_string_buffer(128)
    if getattr(library, function)(*before, buffer, ctypes.c_uint(len(buffer))) != _OK:
        return ""
    return buffer.value.decode("utf-8", errors="replace")


def _memory(library: ctypes.CDLL, handle: Any) -> tuple[int, int] | None:
    """Return total and used bytes."""
    newer = getattr(library, "nvmlDeviceGetMemoryInfo_v2", None)
    if newer is not None:
        second = _Memory2(version=ctypes.sizeof(_Memory2) | (2 << 24))
        if newer(handle, ctypes.byref(second)) == _OK:
            return second.total, second.used
    first = _Memory()
    if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(first)) == _OK:
        return first.total, first.used
    return None


def _processes(library: ctypes.CDLL, kind: str, handle: Any) -> tuple[GpuProcess, ...] | None:
    """Return the processes of one kind; None if the driver does not say."""
    ask = getattr(library, f"nvmlDeviceGet{kind}RunningProcesses_v3", None)
    if ask is None:
        return None
    room = 64
    while room <= _MOST_PROCESSES:
        count, entries = ctypes.c_uint(room), (_Process * room)()
        code = ask(handle, ctypes.byref(count), entries)
        if code == _OK:
            named: ProcessKind = "compute" if kind == "Compute" else "graphics"
            return tuple(
                GpuProcess(p.pid, None if p.used == _NO_VALUE else p.used / _GIB, named) for p in entries[: count.value]
            )
        if code != _TOO_SMALL:
            return None
        room *= 4
    return None


def _busy(library: ctypes.CDLL, handle: Any) -> int | None:
    value = _Utilization()
    code = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(value))
    return int(value.gpu) if code == _OK else None


def _mig(library: ctypes.CDLL, handle: Any) -> bool:
    now, later = ctypes.c_uint(), ctypes.c_uint()
    ask = getattr(library, "nvmlDeviceGetMigMode", None)
    return ask is not None and ask(handle, ctypes.byref(now), ctypes.byref(later)) == _OK and now.value == 1
