"""Identities and policies from files: read over the tables of a store, and read again when they change."""

import os

import pytest

from observer.errors import ConfigError, PolicyError
from observer.judging import Files, Watch, read_judging
from observer.store import Store

IDENTITIES = "cluster: {cluster}\nendpoints:\n  - {{pod: shop/web, ips: [10.0.0.1], labels: {{app: {app}}}}}\n"
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{}]}]
"""
WEB = bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 1))


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (tmp_path / "identities.yaml").write_text(IDENTITIES.format(cluster="east", app="web"))
    (folder / "web.yaml").write_text(POLICY)
    return Files(tmp_path / "identities.yaml", (folder,))


def test_what_files_say(files):
    store = Store(16)
    judging = read_judging(files, store.endpoints, store.policies)
    assert judging.cluster == "east"
    assert store.endpoints[judging.endpoints.lookup(4, WEB)].pod == "web"
    assert judging.policy is not None
    assert store.policies[1].name == "web"
    assert judging.warnings == ()


def test_nothing_said():
    store = Store(16)
    judging = read_judging(Files(), store.endpoints, store.policies)
    assert judging.policy is None
    assert not store.endpoints[judging.endpoints.lookup(4, WEB)].managed


def test_what_was_read_before_keeps_its_numbers(files):
    store = Store(16)
    first = read_judging(files, store.endpoints, store.policies).endpoints.lookup(4, WEB)
    files.identities.write_text(IDENTITIES.format(cluster="east", app="other"))
    second = read_judging(files, store.endpoints, store.policies).endpoints.lookup(4, WEB)
    assert first != second
    assert "k8s:app=web" in store.endpoints[first].labels
    assert "k8s:app=other" in store.endpoints[second].labels


@pytest.mark.parametrize(("name", "error"), [("identities.yaml", ConfigError), ("policies/web.yaml", PolicyError)])
def test_a_broken_file_is_told(files, tmp_path, name, error):
    (tmp_path / name).write_text("nonsense: [")
    store = Store(16)
    with pytest.raises(error, match=name.rpartition("/")[2]):
        read_judging(files, store.endpoints, store.policies)


def looks(watch, number=3):
    return [watch.changed() for _ in range(number)]


def test_a_change_counts_once_when_it_stands_still(files):
    watch = Watch(files)
    assert looks(watch) == [False, False, False]
    files.identities.write_text("endpoints: []\n")
    assert looks(watch) == [False, True, False]


def change(files, tmp_path, what):
    web = tmp_path / "policies/web.yaml"
    if what == "same size":
        os.utime(web, ns=(1, 1))
    elif what == "a file more":
        (tmp_path / "policies/new.yaml").write_text(POLICY)
    elif what == "a file less":
        web.unlink()
    else:  # as Kubernetes' ConfigMaps and careful editors do
        (tmp_path / "next").write_text(web.read_text())
        os.utime(tmp_path / "next", ns=(web.stat().st_atime_ns, web.stat().st_mtime_ns))
        (tmp_path / "next").rename(web)


@pytest.mark.parametrize("what", ["same size", "a file more", "a file less", "moved into place"])
def test_every_kind_of_change_is_seen(files, tmp_path, what):
    watch = Watch(files)
    change(files, tmp_path, what)
    assert looks(watch) == [False, True, False]


def test_what_is_put_back_before_it_was_read_is_no_change(files):
    watch = Watch(files)
    before = files.identities.stat()
    text = files.identities.read_text()
    files.identities.write_text("endpoints: []\n")
    assert not watch.changed()
    files.identities.write_text(text)
    os.utime(files.identities, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert looks(watch) == [False, False, False]
