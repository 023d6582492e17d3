import pytest

from observer.cli.observe_time import parse_duration, parse_time
from observer.errors import ConfigError

NOW = 1_700_000_000_000_000_000
DAY_NS = 86_400_000_000_000
MAY_17 = 1_715_904_000_000_000_000  # 2024-05-17T00:00:00Z, by date(1)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5m", 300_000_000_000),
        ("1h43m", 6_180_000_000_000),
        ("0", 0),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("300ms", 300_000_000),
        ("2us3ns", 2_003),
        ("2\u00b5s", 2_000),
        ("2\u03bcs", 2_000),
        ("-10s", -10_000_000_000),
        ("+10s", 10_000_000_000),
    ],
)
def test_durations_count_back_from_now(text, nanoseconds):
    assert parse_duration(text) == nanoseconds
    assert parse_time(text, NOW) == NOW - nanoseconds


@pytest.mark.parametrize("text", ["", "-", "5", "1h43", "5 m", "5M", "h", "1d", ".s", "m5", "9999999999999h"])
def test_no_duration(text):
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2024-05-17", MAY_17),
        ("2024-05-17T10Z", MAY_17 + 10 * 3_600_000_000_000),
        ("2024-05-17T05-05:00", MAY_17 + 10 * 3_600_000_000_000),
        ("2024-05-17T10:44Z", MAY_17 + 38_640_000_000_000),
        ("2024-05-17T10:44:07Z", MAY_17 + 38_647_000_000_000),
        ("2024-05-17T12:44:07+02:00", MAY_17 + 38_647_000_000_000),
        ("2024-05-17T10:44:07.1Z", MAY_17 + 38_647_100_000_000),
        ("2024-05-17T10:44:07.123456789Z", MAY_17 + 38_647_123_456_789),
        ("Fri, 17 May 2024 10:44:07 +0000", MAY_17 + 38_647_000_000_000),
        ("Fri, 17 May 2024 12:44:07 +0200", MAY_17 + 38_647_000_000_000),
        ("1969-12-31", -DAY_NS),
    ],
)
def test_dates(text, time_ns):
    assert parse_time(text, NOW) == time_ns


@pytest.mark.parametrize(
    "text",
    [
        "Jan  1 00:00:04.000",  # what compact prints has no year
        "2024-05-17T10:44:07",  # no zone
        "2024-05-17 10:44:07Z",
        "2024-05-17T10",
        "2024-5-17",
        "2024-02-30",
        "2024-05-17T24:00:00Z",
        "2024-05-17T10:60Z",
        "2024-05-17T10:44:07+99:00",
        "0000-01-01",
        "Foo, 17 May 2024 10:44:07 +0000",
        "yesterday",
        "\u0662\u0660\u0662\u0664-\u0660\u0665-\u0661\u0667",  # Arabic digits
    ],
)
def test_what_is_refused_says_what_to_give(text):
    with pytest.raises(ConfigError, match="give a duration"):
        parse_time(text, NOW)
