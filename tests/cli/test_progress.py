import io

import pytest

from observer.cli import progress as module
from observer.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_bar_is_painted_over_itself_and_wiped_away(clock):
    stream = Terminal()
    progress = Progress(stream)
    assert progress.shown
    progress.update(1, 4_000_000)  # too early: a short capture shows no bar
    assert stream.getvalue() == ""
    for seconds, done in ((0.2, 1_000_000), (0.4, 4_000_000)):
        clock[0] = 100.0 + seconds
        progress.update(done, 4_000_000)
    progress.wipe()
    assert stream.getvalue() == (
        "\r[#######.......................]  25% of 4.0 MB\r[##############################] 100% of 4.0 MB\r\x1b[K"
    )


def test_what_comes_of_a_pipe_has_no_size(clock):
    stream = Terminal()
    progress = Progress(stream)
    clock[0] += 1
    progress.update(10, 0)
    assert "of 0.0 MB" in stream.getvalue()


def test_nothing_is_painted_where_nobody_looks():
    assert not Progress(io.StringIO()).shown


def test_the_bar_is_gone_at_the_end_also_of_a_failure(clock):
    stream = Terminal()
    progress = Progress(stream)

    def items():
        clock[0] += 1
        progress.update(1, 2)
        yield 1
        raise ValueError("cut")

    with pytest.raises(ValueError, match="cut"):
        list(progress.around(items()))
    assert stream.getvalue().endswith("\r\x1b[K")
