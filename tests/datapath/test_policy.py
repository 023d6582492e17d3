"""bpf/policy.h judges as the engine does: the table of tests/policy/test_engine.py by BPF_PROG_TEST_RUN."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf.build import build
from observer.datapath.libbpf import Object
from observer.datapath.policy_maps import put_policy
from tests.datapath.policy_kernel import KernelJudge
from tests.policy.test_compile import answer, compiled, refused_by_name, seen, told
from tests.policy.test_engine import CASES
from tests.policy.town import Town

pytestmark = pytest.mark.ebpf


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Iterator[Object]:
    target = tmp_path_factory.mktemp("bpf") / "policy_test.bpf.o"
    build(Path(__file__).parent / "policy_test.bpf.c", target)
    with Object(target.read_bytes(), "policy_test") as policy_test:
        policy_test.load()
        yield policy_test


@pytest.mark.parametrize(("policies", "asked"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdicts_of_the_kernel_are_the_engines(tmp_path, loaded, policies, asked):
    town = Town(tmp_path, policies)
    if refused_by_name(town):
        return
    put_policy(loaded, compiled(town))
    judge = KernelJudge(loaded, 1)
    for source, destination, what, request, _ in asked:
        expected = seen(town.ask(source, destination, what, request))
        assert told(answer(judge, town, source, destination, what, request)) == expected, (source, destination, what)
