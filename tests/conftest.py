"""What tests in several folders are given."""

from collections.abc import Iterator

import pytest

from tests.datapath.namespaces import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of namespaces, with the test's thread on its router."""
    with Network() as network, network.inside("router"):
        yield network
