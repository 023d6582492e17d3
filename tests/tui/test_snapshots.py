"""Every screen at three sizes is what somebody has looked at (tests/tui/snapshots)."""

import pytest
from rich.cells import cell_len

from tests.tui.snapshots import PLACE, SCENES, SIZES, path, take


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", SCENES)
def test_snapshot(scene, size):
    got = take(scene, size)
    assert got == path(scene, size).read_text(), "python -m tests.tui.snapshots, then look at the difference"
    assert max(map(cell_len, got.splitlines())) <= size[0]


def test_no_snapshot_is_of_a_scene_that_is_gone():
    assert {file.name for file in PLACE.iterdir()} == {path(scene, size).name for scene in SCENES for size in SIZES}
