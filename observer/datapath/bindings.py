"""libbpf.so.1 by ctypes: its functions with their signatures, the structures that they take, and its refusals.

Numbers that a call returns enter; the refusals among them leave as DatapathErrors that say what to do. It knows no
objects, no maps and no hooks. Structures and semantics: libbpf 1.1, bpf.h and libbpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections import deque
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Final

from observer.datapath.rights import EBPF, missing
from observer.errors import DatapathError

LIBRARY: Final = "libbpf.so.1"
WARNINGS: Final = 8
"""How many of libbpf's own messages are kept until one is asked for."""


class OpenOpts(Structure):
    """The head of struct bpf_object_open_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("_unused", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    )


class TestRunOpts(Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class MapOpts(Structure):
    """The head of struct bpf_map_create_opts."""

    _fields_ = (("sz", c_size_t), ("_btf", c_uint32 * 4), ("inner_map_fd", c_uint32), ("map_flags", c_uint32))


class LinkOpts(Structure):
    """The head of struct bpf_link_create_opts."""

    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("_padding", c_uint32))


class TcHook(Structure):
    """struct bpf_tc_hook."""

    _fields_ = (("sz", c_size_t), ("ifindex", c_int), ("attach_point", c_int), ("parent", c_uint32))


class TcOpts(Structure):
    """struct bpf_tc_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


class MapInfo(Structure):
    """The head of struct bpf_map_info; the kernel fills as much as it is asked for."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    )


_Print: Final = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    # name: (result, arguments...)
    "bpf_map_create": (c_int, c_int, c_char_p, c_uint32, c_uint32, c_uint32, POINTER(MapOpts)),
    "bpf_map_delete_elem": (c_int, c_int, c_void_p),
    "bpf_map_get_next_key": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_lookup_batch": (c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    "bpf_map_lookup_elem": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_update_batch": (c_int, c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    "bpf_map_update_elem": (c_int, c_int, c_void_p, c_void_p, c_uint64),
    "bpf_link_create": (c_int, c_int, c_int, c_int, POINTER(LinkOpts)),
    "bpf_link__destroy": (c_int, c_void_p),
    "bpf_link__disconnect": (None, c_void_p),
    "bpf_link__fd": (c_int, c_void_p),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__reuse_fd": (c_int, c_void_p, c_int),
    "bpf_map__set_max_entries": (c_int, c_void_p, c_uint32),
    "bpf_obj_get_info_by_fd": (c_int, c_int, c_void_p, POINTER(c_uint32)),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__find_map_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_object__find_program_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__next_program": (c_void_p, c_void_p, c_void_p),
    "bpf_object__open_mem": (c_void_p, c_char_p, c_size_t, POINTER(OpenOpts)),
    "bpf_prog_test_run_opts": (c_int, c_int, POINTER(TestRunOpts)),
    "bpf_program__attach": (c_void_p, c_void_p),
    "bpf_program__fd": (c_int, c_void_p),
    "bpf_program__name": (c_char_p, c_void_p),
    "bpf_program__set_autoload": (c_int, c_void_p, c_bool),
    "bpf_tc_attach": (c_int, POINTER(TcHook), POINTER(TcOpts)),
    "bpf_tc_detach": (c_int, POINTER(TcHook), POINTER(TcOpts)),
    "bpf_tc_hook_create": (c_int, POINTER(TcHook)),
    "bpf_tc_hook_destroy": (c_int, POINTER(TcHook)),
    "libbpf_num_possible_cpus": (c_int,),
    "libbpf_set_print": (c_void_p, _Print),
}

warnings: Final[deque[str]] = deque(maxlen=WARNINGS)
"""What libbpf had to say of late: it names the map or section that failed, its return value does not."""


def _keep_warning(level: int, form: bytes, arguments: int) -> int:
    if level == 0:
        line = ctypes.create_string_buffer(512)
        ctypes.CDLL(None).vsnprintf(line, c_size_t(len(line)), c_char_p(form), c_void_p(arguments))
        warnings.append(line.value.decode("utf-8", "replace").strip())
    return 0


_keep_warning_pointer: Final = _Print(_keep_warning)


@functools.cache
def libbpf() -> ctypes.CDLL:
    """The library, its functions with their signatures; DatapathError where it is not installed."""
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise DatapathError(f"{LIBRARY} is not installed: on Debian and Ubuntu, install libbpf1 ({error})") from None
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(_keep_warning_pointer)
    return library


def check(result: int, what: str) -> None:
    """Raise the refusal that a negative result is."""
    if result < 0:
        raise refusal(-result, what)


def refusal(number: int, what: str, log: str = "") -> DatapathError:
    """The refusal `number` of the kernel, with what is to be done about it where that is known."""
    lacking = missing(EBPF)
    if number in (errno.EPERM, errno.EACCES) and lacking:
        names = " and ".join(capability.name for capability in lacking)
        message = f"cannot {what}: {names} missing; run as root, or grant the capabilities"
    else:
        message = f"cannot {what}: {reason(number)}"
    return DatapathError(message, number=number, log=log)


def reason(number: int) -> str:
    """The kernel's word for an error, and libbpf's last one, which is told once."""
    told = warnings[-1] if warnings else ""
    warnings.clear()
    return f"{os.strerror(number)}{f' ({told})' if told else ''}"
