"""Enums of the running kernel, from its BTF: what its numbers mean today.

The name of an enum enters, its members leave. libbpf reads /sys/kernel/btf/vmlinux; the layout of struct btf_type and
struct btf_enum is the kernel's (include/uapi/linux/btf.h). Knows no maps and no programs.
"""

from __future__ import annotations

import ctypes
import struct
from ctypes import c_char_p, c_int32, c_uint32, c_void_p
from typing import Final

from observer.datapath.bindings import LIBRARY
from observer.errors import DatapathError

_KIND_ENUM: Final = 6
_TYPE: Final = struct.Struct("<III")
"""name, info, size: struct btf_type."""
_MEMBER: Final = struct.Struct("<Ii")
"""name, value: struct btf_enum."""
_VLEN_MASK: Final = 0xFFFF
"""The part of `info` that counts the members."""


def kernel_enum(name: str) -> dict[int, str]:
    """The members of an enum of the running kernel, by number; DatapathError where the kernel does not tell."""
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    for function, result, arguments in (
        ("btf__load_vmlinux_btf", c_void_p, ()),
        ("btf__find_by_name_kind", c_int32, (c_void_p, c_char_p, c_uint32)),
        ("btf__type_by_id", c_void_p, (c_void_p, c_uint32)),
        ("btf__name_by_offset", c_char_p, (c_void_p, c_uint32)),
        ("btf__free", None, (c_void_p,)),
    ):
        getattr(library, function).restype = result
        getattr(library, function).argtypes = arguments
    btf = library.btf__load_vmlinux_btf()
    if not btf:
        raise DatapathError(
            "this kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF"
        )
    try:
        number = library.btf__find_by_name_kind(btf, name.encode(), _KIND_ENUM)
        if number < 0:
            raise DatapathError(f"this kernel has no enum {name}: drop reasons came with Linux 5.17")
        at = library.btf__type_by_id(btf, number)
        count = _TYPE.unpack(ctypes.string_at(at, _TYPE.size))[1] & _VLEN_MASK
        members = ctypes.string_at(at + _TYPE.size, count * _MEMBER.size)
        return {
            value: library.btf__name_by_offset(btf, name_offset).decode()
            for name_offset, value in _MEMBER.iter_unpack(members)
        }
    finally:
        library.btf__free(btf)
