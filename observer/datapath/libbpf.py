"""What an eBPF object holds once libbpf loaded it: programs that run, maps that are read and written, links.

Bytes of an ELF object enter; typed handles leave, whose file descriptors are closed with them. It knows nothing of
what the programs and maps mean. What libbpf itself takes and says: `bindings`; where packets pass: `hooks`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_uint32
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from observer.datapath.bindings import MapInfo, MapOpts, OpenOpts, TestRunOpts, check, libbpf, reason, refusal, warnings
from observer.errors import DatapathError

LOG_SIZE: Final = 1 << 24
"""Room for the verifier's log: pages that it does not reach cost nothing."""
LOG_LINES: Final = 3
"""How many lines of the verifier's log stand in a message: the last ones name the reason."""

PER_CPU: Final = frozenset({5, 6, 10, 21})
"""Map types whose values are one for each possible CPU (BPF_MAP_TYPE_PERCPU_*, LRU_PERCPU_HASH)."""
ARRAYS: Final = frozenset({2, 6})
"""Map types whose entries cannot be deleted: ARRAY, PERCPU_ARRAY."""
FIRST_BATCH: Final = 4096

Rows = npt.NDArray[np.void]


class Object:
    """An ELF object with its programs and maps: open, adjust, load; closing it closes their descriptors.

    What is attached by a link stays attached until that link is closed.
    """

    def __init__(self, image: bytes, name: str) -> None:
        self.name = name
        self._log = mmap.mmap(-1, LOG_SIZE)
        log_view = (ctypes.c_char * LOG_SIZE).from_buffer(self._log)
        options = OpenOpts(
            sz=OpenOpts.kernel_log_level.offset + 4,
            object_name=name.encode(),
            kernel_log_buf=ctypes.addressof(log_view),
            kernel_log_size=LOG_SIZE,
        )
        self._log_view = log_view  # keeps the memory where libbpf writes
        self._pointer: int | None = libbpf().bpf_object__open_mem(image, len(image), byref(options))
        if not self._pointer:
            raise DatapathError(f"{name} is no eBPF object: {reason(ctypes.get_errno())}")
        self._maps: dict[str, Map] = {}
        self._programs: dict[str, Program] = {}
        self._close = weakref.finalize(self, libbpf().bpf_object__close, self._pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors of programs and maps."""
        self._close()
        self._pointer = None
        for known in self._maps.values():
            known.fd = -1
        for program in self._programs.values():
            program.fd = -1

    def program_names(self) -> list[str]:
        """Every program of the object, loaded or not."""
        library, pointer, names = libbpf(), None, []
        while pointer := library.bpf_object__next_program(self._live(), pointer):
            names.append(library.bpf_program__name(pointer).decode())
        return names

    def only(self, *programs: str) -> None:
        """Load these programs and no other; before `load`."""
        for name in programs:
            self._find("program", name)
        for name in self.program_names():
            self.set_autoload(name, name in programs)

    def set_autoload(self, program: str, autoload: bool) -> None:
        """Whether `load` takes this program along; before `load`."""
        check(libbpf().bpf_program__set_autoload(self._find("program", program), autoload), f"choose {program}")

    def resize(self, name: str, max_entries: int) -> None:
        """Give a map another number of entries (a ring: bytes); before `load`."""
        check(libbpf().bpf_map__set_max_entries(self._find("map", name), max_entries), f"resize the map {name}")

    def share(self, name: str, map: Map) -> None:
        """Use a map of another object, loaded already, for the one of that name here; before `load`."""
        check(libbpf().bpf_map__reuse_fd(self._find("map", name), map.fd), f"share the map {name}")

    def load(self) -> None:
        """Make the maps and load the programs; DatapathError with the verifier's words where it refuses one."""
        warnings.clear()
        result = libbpf().bpf_object__load(self._live())
        if result:
            raise self._refused(-result)
        warnings.clear()

    def program(self, name: str) -> Program:
        """A loaded program."""
        if name not in self._programs:
            self._programs[name] = Program(self, name, self._descriptor("program", name))
        return self._programs[name]

    def map(self, name: str) -> Map:
        """A map of the loaded object."""
        if name not in self._maps:
            self._maps[name] = Map(self, name, self._descriptor("map", name))
        return self._maps[name]

    def attach(self, name: str) -> Link:
        """Attach a program where its section says (tp_btf and others that need no target)."""
        warnings.clear()
        library = libbpf()
        pointer = library.bpf_program__attach(self._find("program", name))
        if not pointer:
            raise refusal(ctypes.get_errno(), f"attach {name}")
        # The link without libbpf's book about it: only the descriptor holds it, as with link_create.
        fd = library.bpf_link__fd(pointer)
        library.bpf_link__disconnect(pointer)
        library.bpf_link__destroy(pointer)
        return Link(fd)

    def _live(self) -> int:
        if self._pointer is None:
            raise ValueError(f"{self.name} is closed")
        return self._pointer

    def _find(self, kind: str, name: str) -> int:
        found: int | None = getattr(libbpf(), f"bpf_object__find_{kind}_by_name")(self._live(), name.encode())
        if not found:
            raise KeyError(f"{self.name} has no {kind} {name}")
        return found

    def _descriptor(self, kind: str, name: str) -> int:
        fd: int = getattr(libbpf(), f"bpf_{kind}__fd")(self._find(kind, name))
        if fd < 0:
            raise ValueError(f"{name} of {self.name} is not loaded")
        return fd

    def _refused(self, number: int) -> DatapathError:
        """Why the object was not loaded."""
        end = self._log.find(b"\0")
        log = self._log[:end].decode("utf-8", "replace")
        lines = [line for line in log.splitlines() if line and not line.startswith(("processed ", "verification time"))]
        if lines and number not in (errno.EPERM, errno.ENOMEM):
            return DatapathError(
                f"the kernel's verifier refuses {self.name}: {' | '.join(lines[-LOG_LINES:])}", number=number, log=log
            )
        return refusal(number, f"load {self.name}", log)


class Program:
    """A loaded program; its descriptor is the object's."""

    def __init__(self, owner: Object, name: str, fd: int) -> None:
        self._owner = owner  # whose end would close the descriptor
        self.name = name
        self.fd = fd

    def test_run(self, frame: bytes | bytearray, *, repeat: int = 1, ctx: bytes | None = None) -> Outcome:
        """Run the program over one Ethernet frame (14 B to about 3.5 KB); `ctx` is a struct __sk_buff."""
        runner = Runner(self, ctx=ctx, repeat=repeat)
        data = (ctypes.c_char * len(frame)).from_buffer_copy(frame)
        return Outcome(runner.run(ctypes.addressof(data), len(frame)), runner.duration_ns)


class Outcome(NamedTuple):
    """What BPF_PROG_TEST_RUN says."""

    retval: int
    duration_ns: int
    """Of one run, on the average of `repeat`."""


class Runner:
    """Runs a program over frame after frame with options made once: what remains is the system call."""

    def __init__(self, program: Program, *, ctx: bytes | None = None, repeat: int = 1) -> None:
        self._program = program
        self.ctx = ctypes.create_string_buffer(ctx, len(ctx)) if ctx else None
        """The struct __sk_buff that each run starts with; the caller may write to it between runs."""
        self._options = TestRunOpts(sz=TestRunOpts.batch_size.offset + 4, repeat=repeat)
        if self.ctx is not None:
            self._options.ctx_in, self._options.ctx_size_in = ctypes.addressof(self.ctx), len(self.ctx)
        self._reference = byref(self._options)
        self._call = libbpf().bpf_prog_test_run_opts

    @property
    def duration_ns(self) -> int:
        """How long the last run took, on the average of `repeat`."""
        return int(self._options.duration)

    def run(self, address: int, size: int) -> int:
        """Run over the frame at that address, which stays the caller's; its return value (TC_ACT_*)."""
        options = self._options
        options.data_in, options.data_size_in = address, size
        options.data_size_out = 0  # the kernel writes it, and refuses a longer frame on finding it
        result = self._call(self._program.fd, self._reference)
        if result:
            raise refusal(-result, f"run {self._program.name} over {size} bytes")
        return int(c_int(options.retval).value)


class Map:
    """A map of a loaded object: keys and values are bytes as the kernel lays them out.

    The value of a per-CPU map is that of each possible CPU in turn, each rounded up to eight bytes.
    """

    def __init__(self, owner: Object | None, name: str, fd: int) -> None:
        self._owner = owner  # whose end would close the descriptor
        self.name = name
        self.fd = fd
        info = MapInfo()
        check(
            libbpf().bpf_obj_get_info_by_fd(fd, byref(info), byref(c_uint32(ctypes.sizeof(info)))),
            f"read about the map {name}",
        )
        self.type = int(info.type)
        self.key_size = int(info.key_size)
        self.max_entries = int(info.max_entries)
        self.value_size = int(info.value_size)
        """Of the whole value; of a per-CPU map, all CPUs together."""
        if self.type in PER_CPU:
            self.value_size = (self.value_size + 7 & ~7) * possible_cpus()

    def get(self, key: bytes) -> bytes | None:
        """The value behind a key, if it is there."""
        value = ctypes.create_string_buffer(self.value_size)
        result = libbpf().bpf_map_lookup_elem(self.fd, self._key(key), value)
        if result == -errno.ENOENT:
            return None
        self._check(result, "read")
        return value.raw

    def set(self, key: bytes, value: bytes) -> None:
        """Write one entry."""
        if len(value) != self.value_size:
            raise ValueError(f"a value of {self.name} has {self.value_size} bytes, not {len(value)}")
        self._check(libbpf().bpf_map_update_elem(self.fd, self._key(key), value, 0), "write to")

    def delete(self, key: bytes) -> bool:
        """Take an entry out; whether it was there."""
        result = libbpf().bpf_map_delete_elem(self.fd, self._key(key))
        if result == -errno.ENOENT:
            return False
        self._check(result, "delete from")
        return True

    def keys(self) -> Iterator[bytes]:
        """Each key; entries that come or go meanwhile may be told twice or not at all."""
        library, key, following = libbpf(), None, ctypes.create_string_buffer(self.key_size)
        while not (result := library.bpf_map_get_next_key(self.fd, key, following)):
            key = following.raw
            yield key
        if result != -errno.ENOENT:
            self._check(result, "walk")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Each key with its value, one system call each: for small maps."""
        for key in self.keys():
            value = self.get(key)
            if value is not None:
                yield key, value

    def lookup_batch(self) -> tuple[Rows, Rows]:
        """All keys and all values, few system calls: rows of `key_size` and of `value_size` bytes."""
        batches = list(self._batches())
        return np.concatenate([keys for keys, _ in batches]), np.concatenate([values for _, values in batches])

    def _batches(self) -> Iterator[tuple[Rows, Rows]]:
        library = libbpf()
        token = ctypes.create_string_buffer(max(self.key_size, 4))
        begun, room = False, min(FIRST_BATCH, self.max_entries)
        while True:
            keys, values = np.empty(room, f"V{self.key_size}"), np.empty(room, f"V{self.value_size}")
            count = c_uint32(room)
            pointers = keys.ctypes.data, values.ctypes.data
            result = library.bpf_map_lookup_batch(
                self.fd, token if begun else None, token, *pointers, byref(count), None
            )
            if result == -errno.ENOSPC and not count.value:  # a bucket of the hash is larger than our room
                room *= 2
                continue
            if result not in (0, -errno.ENOENT):
                self._check(result, "read")
            yield keys[: count.value], values[: count.value]
            if result:
                return
            begun = True

    def update_batch(self, keys: Rows, values: Rows) -> None:
        """Write many entries with one system call; rows of `key_size` and of `value_size` bytes."""
        keys, values = np.ascontiguousarray(keys), np.ascontiguousarray(values)
        if len(keys) != len(values) or keys.itemsize != self.key_size or values.itemsize != self.value_size:
            raise ValueError(f"{self.name} takes as many keys of {self.key_size} as values of {self.value_size} bytes")
        if len(keys):
            count = c_uint32(len(keys))
            self._check(
                libbpf().bpf_map_update_batch(self.fd, keys.ctypes.data, values.ctypes.data, byref(count), None),
                "write to",
            )

    def clear(self) -> None:
        """Take every entry out; those of an array become zero."""
        if self.type in ARRAYS:
            for key in list(self.keys()):
                self.set(key, bytes(self.value_size))
            return
        for key in list(self.keys()):
            self.delete(key)

    def __len__(self) -> int:
        """How many entries there are now; reads them all."""
        return self.max_entries if self.type in ARRAYS else sum(len(keys) for keys, _ in self._batches())

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"a key of {self.name} has {self.key_size} bytes, not {len(key)}")
        return key

    def _check(self, result: int, what: str) -> None:
        check(result, f"{what} the map {self.name}")


@contextmanager
def new_map(type: int, name: str, key_size: int, value_size: int, max_entries: int, flags: int = 0) -> Iterator[Map]:
    """Make a map for a map of maps, which keeps it; our own descriptor is closed at the end."""
    options = MapOpts(sz=ctypes.sizeof(MapOpts), map_flags=flags)
    short = name[:15].encode()  # BPF_OBJ_NAME_LEN
    fd = libbpf().bpf_map_create(type, short, key_size, value_size, max_entries, byref(options))
    check(fd, f"make the map {name}")
    try:
        yield Map(None, name, fd)
    finally:
        os.close(fd)


class Link:
    """What holds a program attached; it is let go when the link is closed or the process dies."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._close = weakref.finalize(self, os.close, fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach."""
        self._close()
        self.fd = -1


@functools.cache
def possible_cpus() -> int:
    """How many values an entry of a per-CPU map has."""
    number: int = libbpf().libbpf_num_possible_cpus()
    check(min(number, 0), "count the CPUs")
    return number
