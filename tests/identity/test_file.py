# ruff: noqa: E501 - a refusal is one line of the table

import ipaddress

import pytest

from observer.errors import ConfigError
from observer.identity.endpoints import MAPPED, Endpoint, IpCache
from observer.identity.file import Identities, load_identities

TEXT = """
cluster: west
endpoints:
  - pod: mail/postman-0
    ips: [10.7.0.1, "fd07::1"]
    labels: {role: postman, "container:image": round, version: 1.0, plain: ""}
    workload: {kind: StatefulSet, name: postman}
    identity: 256
    ports: {SMTP: 25}
  - {pod: mail/postman-1, ips: [10.7.0.2], labels: {role: postman, "container:image": round, version: 1.0, plain: }}
  - {pod: bank/teller, ips: [10.7.1.0/24], labels: {role: teller}}
  - {pod: bank/other, ips: []}
  - {entity: remote-node, ips: [192.168.0.2]}
  - {identity: 1, ips: [192.168.0.1]}
  - {labels: {"reserved:kube-apiserver": "", zone: a}, ips: [192.168.0.3]}
  - {pod: kube-system/proxy, ips: [192.168.0.4], identity: 6}
  - {labels: {"reserved:kube-apiserver": "", "reserved:host": ""}, ips: [192.168.0.5]}
  - {labels: {"reserved:remote-node": "", "reserved:kube-apiserver": ""}, ips: [192.168.0.6]}
  - {labels: {"container:app": printer}, ips: [10.8.0.1]}
namespaces: {mail: {labels: {floor: "2"}}, empty: }
services: [{name: mail/smtp, ips: [10.96.0.25, "fd96::25"]}]
"""


@pytest.fixture
def loaded(tmp_path) -> tuple[Identities, IpCache]:
    (tmp_path / "identities.yaml").write_text(TEXT)
    identities = load_identities(tmp_path / "identities.yaml")
    return identities, identities.ipcache()


def at(cache, text):
    ip = ipaddress.ip_address(text)
    address = ip.packed if ip.version == 6 else MAPPED + ip.packed
    return cache.table[cache.lookup(ip.version, address)]


POSTMAN = (
    "container:image=round",
    "k8s:io.cilium.k8s.namespace.labels.floor=2",
    "k8s:io.kubernetes.pod.namespace=mail",
    "k8s:plain",
    "k8s:role=postman",
    "k8s:version=1.0",
)

ENDPOINTS = [
    ("10.7.0.1", Endpoint(256, "west", "mail", "postman-0", POSTMAN, (("postman", "StatefulSet"),), named_ports=(("smtp", 25),))),
    ("fd07::1", Endpoint(256, "west", "mail", "postman-0", POSTMAN, (("postman", "StatefulSet"),), named_ports=(("smtp", 25),))),
    ("10.7.0.2", Endpoint(256, "west", "mail", "postman-1", POSTMAN)),
    ("10.7.1.99", Endpoint(257, "west", "bank", "teller", ("k8s:io.kubernetes.pod.namespace=bank", "k8s:role=teller"))),
    ("192.168.0.2", Endpoint(6, "west", labels=("reserved:remote-node",))),
    ("192.168.0.1", Endpoint(1, "west", labels=("reserved:host",))),
    ("192.168.0.3", Endpoint(7, "west", labels=("k8s:zone=a", "reserved:kube-apiserver"))),
    ("192.168.0.4", Endpoint(6, "west", "kube-system", "proxy", ("reserved:remote-node",))),
    ("192.168.0.5", Endpoint(1, "west", labels=("reserved:host", "reserved:kube-apiserver"))),
    ("192.168.0.6", Endpoint(7, "west", labels=("reserved:kube-apiserver", "reserved:remote-node"))),
    ("10.8.0.1", Endpoint(259, "west", labels=("container:app=printer",))),
    ("10.96.0.25", Endpoint(9, "west", labels=("reserved:world-ipv4",), service=("mail", "smtp"))),
    ("fd96::25", Endpoint(10, "west", labels=("reserved:world-ipv6",), service=("mail", "smtp"))),
    ("8.8.8.8", Endpoint(9, labels=("reserved:world-ipv4",))),
    ("127.0.0.1", Endpoint(1, labels=("reserved:host",))),
]  # fmt: skip


@pytest.mark.parametrize(("address", "endpoint"), ENDPOINTS)
def test_who_is_at_an_address(loaded, address, endpoint):
    assert at(loaded[1], address) == endpoint


def test_the_rest_of_the_file(loaded):
    identities = loaded[0]
    assert identities.cluster == "west"
    assert identities.dual_stack is True
    assert {name: dict(labels) for name, labels in identities.namespaces.items()} == {
        "mail": {"floor": "2"},
        "empty": {},
    }


def test_one_family_has_one_world(tmp_path):
    (tmp_path / "i.yaml").write_text(
        "endpoints: [{pod: a/b, ips: [10.0.0.1]}]\nservices: [{name: a/s, ips: [10.96.0.1]}]\n"
    )
    cache = load_identities(tmp_path / "i.yaml").ipcache()
    assert [at(cache, text).identity for text in ("8.8.8.8", "2001:db8::1", "10.96.0.1", "10.0.0.1")] == [2, 2, 2, 256]


def test_each_ipcache_has_a_table_of_its_own(loaded):
    assert loaded[0].ipcache().table is not loaded[0].ipcache().table


def test_nothing_known():
    assert at(Identities().ipcache(), "10.0.0.1").identity == 2


def one(entry):
    return f"endpoints:\n  - {entry}\n"


REFUSED = [
    ("", ": holds nothing; write `endpoints:` with pods and their ips"),
    ("endpoints: []\n---\nendpoints: []\n", ":3: a second document; an identities file holds one"),
    ("- a\n", ":1: must be a mapping, not a list"),
    ("endpoint: []\n", ":1: endpoint: unknown field; did you mean endpoints?"),
    ("endpoints: {}\n", ":1: endpoints: must be a list, not a mapping"),
    ("cluster: 5\n", ':1: cluster: must be a string, not a number (5); quote it: "5"'),
    (one("{pod: a/b}"), ":2: endpoints[0]: ips is missing"),
    (one("{ips: [10.0.0.1]}"), ":2: endpoints[0]: says of whom the addresses are neither by pod"),
    (one("{pod: b, ips: [10.0.0.1]}"), ":2: endpoints[0].pod: must be namespace/name, not 'b'"),
    (one("{pod: a/b/c, ips: [10.0.0.1]}"), ":2: endpoints[0].pod: must be namespace/name"),
    (one("{pod: a/b, ip: [10.0.0.1]}"), ":2: endpoints[0].ip: unknown field; did you mean ips?"),
    (one("{pod: a/b, ips: 10.0.0.1}"), ":2: endpoints[0].ips: must be a list, not '10.0.0.1'"),
    (one("{pod: a/b, ips: [10.0.0.256]}"), ":2: endpoints[0].ips[0]: not an address or CIDR: '10.0.0.256'"),
    (one("{pod: a/b, ips: [10.0.0.1/24]}"), ":2: endpoints[0].ips[0]: '10.0.0.1/24' has bits beyond its mask; write 10.0.0.0/24 for all of it, 10.0.0.1 for the address"),
    (one("{pod: a/b, ips: ['fe80::1%eth0']}"), ":2: endpoints[0].ips[0]: 'fe80::1%eth0' has a zone; take it out"),
    (one("{pod: a/b, ips: [10.0.0.1, 10.0.0.1]}"), ":2: endpoints[0].ips[1]: 10.0.0.1 is already claimed (a/b, line 2)"),
    (one("{pod: a/b, ips: ['::ffff:10.0.0.1', 10.0.0.1]}"), ":2: endpoints[0].ips[1]: 10.0.0.1 is already claimed"),
    (one("{pod: a/b, ips: [], identity: 11}"), ":2: endpoints[0].identity: no reserved identity is 11; label sets count from 256"),
    (one("{pod: a/b, ips: [], identity: 0}"), ":2: endpoints[0].identity: must be a number from 1 to 16777215, not 0"),
    (one("{pod: a/b, ips: [], identity: web}"), ":2: endpoints[0].identity: must be a number from 1 to 16777215, not 'web'"),
    (one("{entity: moon, ips: []}"), ":2: endpoints[0].entity: unknown entity 'moon'; one of host, world"),
    (one("{labels: {'reserved:moon': ''}, ips: []}"), ":2: endpoints[0].labels: unknown reserved label 'moon'"),
    (one("{pod: a/b, ips: [], labels: {':a': b}}"), ":2: endpoints[0].labels.:a: must be key or source:key"),
    (one("{pod: a/b, ips: [], labels: {a: [b]}}"), ":2: endpoints[0].labels.a: must be a single value, not a list"),
    (one("{pod: a/b, ips: [], workload: web}"), ":2: endpoints[0].workload: must be a mapping, not 'web'"),
    (one("{pod: a/b, ips: [], workload: {kind: Job}}"), ":2: endpoints[0].workload: name is missing"),
    (one("{pod: a/b, ips: [], ports: {web: '80'}}"), ":2: endpoints[0].ports.web: must be a number from 1 to 65535, not '80'"),
    (one("{pod: a/b, ips: [], identity: 300}\n  - {pod: a/c, ips: [], identity: 300, labels: {x: y}}"), ":3: endpoints[1]: identity 300 stands with other labels too"),
    ("services: [{ips: [10.0.0.1]}]\n", ":1: services[0]: name is missing"),
    ("services: [{name: a/b, ips: [], port: 80}]\n", ":1: services[0].port: unknown field"),
    ("namespaces: {a: {label: {}}}\n", ":1: namespaces.a.label: unknown field; did you mean labels?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refusals_name_file_line_field_and_remedy(tmp_path, text, message):
    (tmp_path / "i.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_identities(tmp_path / "i.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/i.yaml{message}")
    assert "\n" not in str(caught.value)
