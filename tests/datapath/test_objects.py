"""The committed objects are what the sources give: nothing was changed without `make bpf`."""

import os
import shutil
import subprocess
import sys

import pytest

from bpf import build
from observer.datapath import objects
from observer.datapath.libbpf import Object
from observer.errors import DatapathError

SOURCES = sorted(build.HERE.glob("*.bpf.c"))


def test_the_hashes_are_of_the_sources_and_objects_that_are_here():
    assert build.hashes() == build.HASHES.read_text(), "run `make bpf` and commit what it made"


@pytest.mark.ebpf  # needs clang
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_a_build_gives_the_committed_object(source, tmp_path):
    built = tmp_path / "built.o"
    build.build(source, built)
    assert built.read_bytes() == source.with_suffix(".o").read_bytes()


@pytest.mark.ebpf
def test_a_build_elsewhere_gives_the_same_bytes(tmp_path):
    for folder in (tmp_path / "one", tmp_path / "the other"):
        shutil.copytree(build.HERE, folder / "bpf")
        for source in (folder / "bpf").glob("*.bpf.c"):
            if source.name != "drops.bpf.c":  # one is enough, and this one is quick
                source.unlink()
        subprocess.run([sys.executable, "-m", "bpf.build"], cwd=folder, env={"PATH": os.environ["PATH"]}, check=True)
    one, other = ((tmp_path / name / "bpf" / "drops.bpf.o").read_bytes() for name in ("one", "the other"))
    assert one == other == (build.HERE / "drops.bpf.o").read_bytes()
    assert str(tmp_path).encode() not in one


@pytest.mark.ebpf
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_kernel_takes_an_object(source):
    name = source.name.removesuffix(".bpf.c")
    with Object(objects.image(name), name) as loaded:
        loaded.load()
        assert all(loaded.program(each).fd > 0 for each in loaded.program_names())


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_an_object_is_found(source):
    assert objects.image(source.name.removesuffix(".bpf.c"))[:4] == b"\x7fELF"


def test_a_missing_object_is_told():
    with pytest.raises(DatapathError, match=r"nothing\.bpf\.o is not installed"):
        objects.image("nothing")
