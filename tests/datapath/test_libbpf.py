"""libbpf by ctypes: an object of our own loads, runs, keeps numbers in maps, and says what is wrong."""

import ctypes
import gc
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from observer.datapath import libbpf
from observer.datapath.libbpf import Object, Runner, possible_cpus
from observer.errors import DatapathError

pytestmark = pytest.mark.ebpf


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def u64(number: int) -> bytes:
    return struct.pack("=Q", number)


def test_names_are_known_before_loading(tiny_image):
    with Object(tiny_image, "tiny") as tiny:
        assert {"flowscope_tc", "length", "unsafe"} < set(tiny.program_names())


@pytest.mark.parametrize("size", [14, 60, 100, 1514, 3400])
def test_a_program_runs_over_a_frame(load, size):
    tiny = load("length")
    run = tiny.program("length").test_run(bytes(size), repeat=10)
    assert run.retval == size
    assert tiny.map("numbers").get(u32(size)) == u64(10)


def test_a_runner_takes_frames_of_any_order_of_lengths_from_one_buffer(load):
    tiny = load("length")
    runner = Runner(tiny.program("length"))
    data = ctypes.create_string_buffer(3000)
    sizes = [60, 2000, 14, 3000, 61]
    assert [runner.run(ctypes.addressof(data), size) for size in sizes] == sizes


def test_a_runner_gives_each_run_its_context(load):
    tiny = load("flowscope_tc")
    ring = tiny.map("events")
    runner = Runner(tiny.program("flowscope_tc"), ctx=bytes(192))
    data = ctypes.create_string_buffer(60)
    for time_ns in (7, 8):
        assert runner.ctx is not None
        struct.pack_into("=Q", runner.ctx, 152, time_ns)
        assert runner.run(ctypes.addressof(data), 60) == -1
    assert ring.type == 27
    assert tiny.map("counters").get(u32(2)) is not None


@pytest.mark.parametrize("size", [0, 13, 65536])
def test_a_frame_that_the_kernel_does_not_run_is_told(load, size):
    with pytest.raises(DatapathError, match=f"cannot run length over {size} bytes: Invalid argument"):
        load("length").program("length").test_run(bytes(size))


def test_a_map_is_read_written_and_walked(load):
    numbers = load("length").map("numbers")
    assert (numbers.key_size, numbers.value_size, numbers.max_entries) == (4, 8, 1024)
    assert numbers.get(u32(1)) is None
    for number in range(10):
        numbers.set(u32(number), u64(number * number))
    assert numbers.get(u32(3)) == u64(9)
    assert len(numbers) == 10
    assert dict(numbers.items()) == {u32(number): u64(number * number) for number in range(10)}
    assert numbers.delete(u32(3)) is True
    assert numbers.delete(u32(3)) is False
    numbers.clear()
    assert list(numbers.items()) == []


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_map_is_read_and_written_in_batches(load, count):
    numbers = load("length").map("numbers")
    keys = np.arange(count, dtype="u4").view("V4")
    values = np.arange(count, dtype="u8").view("V8")
    numbers.update_batch(keys, values)
    read_keys, read_values = numbers.lookup_batch()
    assert sorted(read_keys.view("u4").tolist()) == list(range(count))
    assert read_keys.view("u4").tolist() == read_values.view("u8").tolist()


def test_a_batch_is_read_where_a_bucket_is_larger_than_what_was_asked_for(load, monkeypatch):
    monkeypatch.setattr(libbpf, "FIRST_BATCH", 1)
    numbers = load("length").map("numbers")
    numbers.update_batch(np.arange(900, dtype="u4").view("V4"), np.zeros(900, "V8"))
    keys, _ = numbers.lookup_batch()
    assert sorted(keys.view("u4").tolist()) == list(range(900))


def test_a_per_cpu_map_has_a_value_for_each_cpu(load):
    tiny = load("flowscope_tc")
    tiny.program("flowscope_tc").test_run(bytes(60), repeat=5)
    counters = tiny.map("counters")
    assert counters.value_size == 8 * possible_cpus()
    value = counters.get(u32(2))
    assert value is not None
    assert sum(np.frombuffer(value, "u8")) == 5
    assert len(counters) == 4
    counters.clear()
    assert counters.get(u32(2)) == bytes(counters.value_size)
    keys, values = counters.lookup_batch()
    assert keys.view("u4").tolist() == [0, 1, 2, 3]
    assert values.itemsize == counters.value_size


def test_a_full_map_says_so(load):
    numbers = load("length").map("numbers")
    numbers.update_batch(np.arange(1024, dtype="u4").view("V4"), np.zeros(1024, "V8"))
    with pytest.raises(DatapathError, match="cannot write to the map numbers: Argument list too long"):
        numbers.set(u32(5000), u64(0))


@pytest.mark.parametrize("call", ["get", "delete"])
def test_a_key_of_another_size_is_a_mistake(load, call):
    with pytest.raises(ValueError, match="a key of numbers has 4 bytes, not 3"):
        getattr(load("length").map("numbers"), call)(b"abc")


def test_a_value_of_another_size_is_a_mistake(load):
    with pytest.raises(ValueError, match="a value of numbers has 8 bytes, not 4"):
        load("length").map("numbers").set(u32(0), u32(0))


def test_a_map_is_resized_before_loading(tiny_image):
    with Object(tiny_image, "tiny") as tiny:
        tiny.only()
        tiny.resize("recent", 5000)
        tiny.load()
        assert tiny.map("recent").max_entries == 5000


def test_two_objects_share_a_map(load, tiny_image):
    first = load("length")
    with Object(tiny_image, "second") as second:
        second.only("length")
        second.share("numbers", first.map("numbers"))
        second.load()
        second.program("length").test_run(bytes(60))
    assert first.map("numbers").get(u32(60)) == u64(1)


def test_a_refusal_of_the_verifier_is_told_with_its_reason(tiny_image):
    with Object(tiny_image, "tiny") as tiny, pytest.raises(DatapathError) as caught:
        tiny.load()
    message = str(caught.value)
    assert message.startswith("the kernel's verifier refuses tiny: ")
    assert "R1 offset is outside of the packet" in message
    assert "\n" not in message
    assert "r0 = *(u8 *)(r1 +0)" in caught.value.log


def test_what_is_no_object_is_told():
    with pytest.raises(DatapathError, match="garbage is no eBPF object"):
        Object(b"\x7fELF" + bytes(100), "garbage")


def test_what_was_not_loaded_is_a_mistake(load, tiny_image):
    tiny = load("length")
    with pytest.raises(ValueError, match="snapshot of tiny is not loaded"):
        tiny.program("snapshot")
    with Object(tiny_image, "tiny") as waiting, pytest.raises(ValueError, match="numbers of tiny is not loaded"):
        waiting.map("numbers")
    with pytest.raises(KeyError, match="no program nonsense"):
        tiny.program("nonsense")
    with pytest.raises(KeyError, match="no map nonsense"):
        tiny.map("nonsense")


def test_a_tracing_program_runs_while_its_link_is_held(load):
    tiny = load("executed")
    counters = tiny.map("counters")

    def seen() -> int:
        return int(np.frombuffer(counters.get(u32(2)) or b"", "u8").sum())

    link = tiny.attach("executed")
    subprocess.run(["true"], check=True)
    held = seen()
    assert held >= 1
    link.close()
    after = seen()
    subprocess.run(["true"], check=True)
    assert seen() == after


def test_descriptors_are_closed_with_the_object(tiny_image):
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect()
    before = descriptors()
    with Object(tiny_image, "tiny") as tiny:
        tiny.only("length")
        tiny.load()
        tiny.map("numbers")
        assert descriptors() > before
    assert descriptors() == before
    forgotten = Object(tiny_image, "tiny")
    forgotten.only("executed")
    forgotten.load()
    link = forgotten.attach("executed")
    del forgotten, link
    gc.collect()
    assert descriptors() == before


def test_a_closed_object_is_not_used(load):
    tiny = load("length")
    program, numbers = tiny.program("length"), tiny.map("numbers")
    tiny.close()
    with pytest.raises(ValueError, match="tiny is closed"):
        tiny.map("recent")
    with pytest.raises(DatapathError, match="Bad file descriptor"):
        program.test_run(bytes(60))
    with pytest.raises(DatapathError, match="Bad file descriptor"):
        numbers.get(u32(1))


def run_python(code: str, *prefix: str) -> str:
    done = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        ("cap_bpf,cap_sys_admin", "CAP_BPF missing"),
        ("cap_perfmon,cap_sys_admin", "CAP_PERFMON missing"),
        ("cap_bpf,cap_perfmon,cap_net_admin,cap_sys_admin", "CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON missing"),
    ],
)
def test_a_missing_capability_is_named(tiny_image, tmp_path, dropped, named):
    path = tmp_path / "tiny.bpf.o"
    path.write_bytes(tiny_image)
    code = f"""
from observer.datapath.libbpf import Object
from observer.errors import DatapathError
with Object(open({str(path)!r}, "rb").read(), "tiny") as tiny:
    tiny.only("executed")
    try:
        tiny.load()
    except DatapathError as error:
        print(error)
"""
    less = ",".join(f"-{name.removeprefix('cap_')}" for name in dropped.split(","))
    told = run_python(code, "setpriv", f"--bounding-set={less}", f"--inh-caps={less}")
    assert told.startswith("cannot load tiny: ")
    assert named in told
    assert told.count("\n") == 1


def test_a_missing_library_is_told():
    code = """
from observer.datapath import bindings
bindings.LIBRARY = "libbpf-that-is-not-there.so.1"
try:
    bindings.libbpf()
except bindings.DatapathError as error:
    print(error)
"""
    assert "is not installed: on Debian and Ubuntu, install libbpf1" in run_python(code)
