import pytest

from observer.errors import PolicyError
from observer.policy.load import load_policies
from tests.policy.town import ccnp, cnp

SPEC = "{endpointSelector: {}, ingress: [{}]}"


def names(documents):
    return [policy.ref.name for policy in documents.policies]


def test_files_folders_lists_and_several_documents(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "b.yaml").write_text(cnp("b1", SPEC) + "---\n---\n" + ccnp("b2", SPEC))
    (folder / "a.yml").write_text(cnp("a", SPEC))
    (folder / "c.json").write_text(
        '{"kind": "List", "apiVersion": "v1", "items": [{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",'
        ' "metadata": {"name": "c"}, "spec": {"endpointSelector": {}, "egress": [{}]}}]}'
    )
    (folder / "README.md").write_text("not: [read")
    (tmp_path / "single").write_text(cnp("single", SPEC))
    documents = load_policies([tmp_path / "single", str(folder)])
    assert names(documents) == ["single", "a", "b1", "b2", "c"]
    assert documents.warnings == ()


def test_other_things_are_passed_over_with_a_warning(tmp_path):
    (tmp_path / "p.yaml").write_text("apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n" + cnp("p", SPEC))
    (tmp_path / "q.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\n")
    documents = load_policies([tmp_path])
    assert names(documents) == ["p"]
    assert documents.warnings == (
        f"{tmp_path}/p.yaml:2: a ConfigMap is no policy; passed over",
        f"{tmp_path}/q.yaml:2: a Deployment is no policy; passed over",
        f"{tmp_path}/q.yaml: holds no policy",
    )


REFUSED = [
    ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n", ":2: kind: NetworkPolicy is not supported yet"),
    ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolcy\n", ":2: kind: CiliumNetworkPolcy is not supported yet"),
    ("kind: Thing\n", ":1: kind: unknown kind 'Thing' without apiVersion; one of CiliumNetworkPolicy"),
    ("spec: {}\n", ":1: kind is missing; write kind: CiliumNetworkPolicy"),
    ("- a\n", ":1: must be a mapping, not a list"),
    ("just words\n", ":1: must be a mapping, not 'just words'"),
    (cnp("p", SPEC) + cnp("p", SPEC), ":7: policy bank/p stands at "),
    ("kind: [\n", ":2: not valid YAML: "),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policies([tmp_path / "p.yaml"])
    assert str(caught.value).startswith(f"{tmp_path}/p.yaml{message}")
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read: No such file or directory; check the path"):
        load_policies([tmp_path / "none.yaml"])
    with pytest.raises(PolicyError, match=r"holds no file that ends in \.yaml, \.yml, \.json"):
        load_policies([tmp_path])


def test_the_same_name_in_two_namespaces_is_two_policies(tmp_path):
    (tmp_path / "p.yaml").write_text(cnp("p", SPEC) + cnp("p", SPEC, "mail") + ccnp("p", SPEC))
    assert names(load_policies([tmp_path / "p.yaml"])) == ["p", "p", "p"]
