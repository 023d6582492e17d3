"""A lab for each test: namespaces and programs, gone when the test is over."""

from collections.abc import Iterator

import pytest

from fixtures.record.netns import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
