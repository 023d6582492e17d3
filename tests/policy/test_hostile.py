# ruff: noqa: E501
"""Any bytes as a policy or identities file: one line of complaint or a reading, nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.errors import ConfigError, PolicyError
from observer.identity.file import load_identities
from observer.policy.load import load_policies
from tests.policy.town import IDENTITIES, cnp

POLICY = cnp(
    "p",
    "{endpointSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d]}]}, ingress: "
    "[{fromEndpoints: [{}], toPorts: [{ports: [{port: '80', endPort: 90, protocol: TCP}], rules: {http: [{path: /a}]}}]},"
    " {fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}], icmps: [{fields: [{type: 8}]}]}]}",
)


@st.composite
def mutated(draw, text):
    """The text with a few stretches replaced by others of its own, or by odd bytes."""
    raw = text.encode()
    for _ in range(draw(st.integers(1, 4))):
        start, end, other = (draw(st.integers(0, len(raw))) for _ in range(3))
        size = draw(st.integers(0, 12))
        piece = draw(
            st.one_of(
                st.just(raw[other : other + size]),
                st.binary(max_size=6),
                st.sampled_from([b"&a ", b"*a", b"null", b"- "]),
            )
        )
        raw = raw[: min(start, end)] + piece + raw[min(start, end) + draw(st.integers(0, 12)) :]
    return raw


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "f.yaml"


def complaint(load, argument, error_class):
    """What the loader says against it; nothing where it reads it. Any other exception fails the test."""
    try:
        load(argument)
    except error_class as error:
        return str(error)
    return None


@settings(deadline=None, max_examples=300)
@given(raw=st.one_of(st.binary(max_size=80), mutated(POLICY)))
def test_policies(file, raw):
    file.write_bytes(raw)
    said = complaint(load_policies, [file], PolicyError)
    assert said is None or (said.startswith(str(file)) and said.isprintable())


@settings(deadline=None, max_examples=300)
@given(raw=st.one_of(st.binary(max_size=80), mutated(IDENTITIES)))
def test_identities(file, raw):
    file.write_bytes(raw)
    said = complaint(load_identities, file, ConfigError)
    assert said is None or (said.startswith(str(file)) and said.isprintable())
