"""Capabilities: which are missing, and that those given up are gone for good."""

import os
import subprocess
import sys

import pytest

from observer.datapath.rights import EBPF, Capability, effective, missing

pytestmark = pytest.mark.ebpf  # root has what is given up here

CODE = """
import os, subprocess, sys, threading
from observer.datapath.rights import *
drop_all_but([Capability[name] for name in sys.argv[1:]])
print(*[capability.name for capability in missing(Capability)])
print(*[capability.name for capability in Capability if capability not in missing(Capability)])
told = []
thread = threading.Thread(target=lambda: told.append(effective()))
thread.start()
thread.join()
print(told == [effective()])
print(subprocess.run(["grep", "-E", "^Cap(Eff|Bnd|Amb|Inh)|^NoNewPrivs", "/proc/self/status"],
    capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize(
    ("prefix", "keep"),
    [
        ([], []),
        ([], ["CAP_NET_ADMIN"]),
        ([], ["CAP_NET_ADMIN", "CAP_BPF"]),
        (["setpriv", "--bounding-set=-setpcap", "--inh-caps=-setpcap"], ["CAP_BPF"]),  # may not touch the bounding set
        (["setpriv", "--reuid=65534", "--clear-groups"], []),  # has nothing to give up
    ],
)
def test_what_is_given_up_is_gone_for_this_process_its_threads_and_what_it_runs(prefix, keep):
    done = subprocess.run([*prefix, sys.executable, "-c", CODE, *keep], capture_output=True, text=True, check=True)
    lacking, left, same, *status = done.stdout.splitlines()
    assert left.split() == sorted(keep, key=lambda name: Capability[name])
    assert set(lacking.split()) == {capability.name for capability in Capability} - set(keep)
    assert same == "True"
    fields = dict(line.split(":\t") for line in status if line)
    kept = sum(1 << Capability[name] for name in keep)
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapAmb"], 16) == int(fields["CapInh"], 16) == 0
    if not prefix:
        assert int(fields["CapBnd"], 16) == kept
        assert int(fields["CapEff"], 16) == kept  # root's programs have what the bounding set leaves


def test_root_has_what_is_needed():
    assert os.geteuid() == 0
    assert missing(EBPF) == ()
    assert effective() >> Capability.CAP_BPF & 1
