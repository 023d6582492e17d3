import pytest

from observer.policy.selector import Requirement, Selector, by_key, split_key

LABELS = by_key(("k8s:app=web", "container:app=box", "k8s:bare", "reserved:host", "k8s:eq=a=b"))

REQUIREMENTS = [
    (Requirement("", "app", "In", frozenset({"web"})), True, "app=web"),
    (Requirement("", "app", "In", frozenset({"box", "x"})), True, "app in (box, x)"),
    (Requirement("k8s", "app", "In", frozenset({"box"})), False, "k8s:app=box"),
    (Requirement("container", "app", "In", frozenset({"box"})), True, "container:app=box"),
    (Requirement("", "bare", "In", frozenset({""})), True, "bare="),
    (Requirement("", "eq", "In", frozenset({"a=b"})), True, "eq=a=b"),
    (Requirement("", "gone", "In", frozenset({""})), False, "gone="),
    (Requirement("", "app", "NotIn", frozenset({"web"})), False, "app notin (web)"),
    (Requirement("", "gone", "NotIn", frozenset({"web"})), True, "gone notin (web)"),
    (Requirement("reserved", "host", "Exists"), True, "reserved:host"),
    (Requirement("k8s", "host", "Exists"), False, "k8s:host"),
    (Requirement("k8s", "host", "DoesNotExist"), True, "!k8s:host"),
    (Requirement("", "bare", "DoesNotExist"), False, "!bare"),
]


@pytest.mark.parametrize(("requirement", "matches", "text"), REQUIREMENTS)
def test_requirements(requirement, matches, text):
    assert requirement.matches(LABELS) is matches
    assert str(requirement) == text


def test_all_requirements_hold():
    one, other = REQUIREMENTS[0][0], REQUIREMENTS[2][0]
    assert Selector((one,)).matches(LABELS)
    assert not Selector((one, other)).matches(LABELS)
    assert Selector().matches(LABELS)
    assert Selector().matches({})


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("app", ("", "app")),
        ("any:app", ("", "app")),
        ("k8s:app", ("k8s", "app")),
        ("container:app", ("container", "app")),
        ("reserved:host", ("reserved", "host")),
        ("example.org/app", ("", "example.org/app")),
        ("k8s:a:b", ("k8s", "a:b")),
    ],
)
def test_keys(key, split):
    assert split_key(key) == split
