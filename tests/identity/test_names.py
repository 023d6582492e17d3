from hypothesis import given
from hypothesis import strategies as st

from observer.identity import names
from observer.identity.names import GRACE_NS, MAX_NAMES, MAX_TTL, SECOND, Names, packed
from observer.losses import Losses

SHOP, API = b"shop", b"api"
WEB, WEB6 = packed("192.0.2.8"), packed("2001:db8::8")


def test_what_a_client_was_told() -> None:
    known = Names(Losses())
    assert not known
    known.learn(SHOP, ["192.0.2.8", "2001:db8::8"], ["WWW.Example.com.", "edge.example.net."], 30, 0)
    assert known.lookup(SHOP, WEB, 0) == ("www.example.com", "edge.example.net")
    assert known.lookup(SHOP, WEB6, 0) == ("www.example.com", "edge.example.net")
    assert known.lookup(API, WEB, 0) == ()
    assert known.lookup(SHOP, packed("192.0.2.9"), 0) == ()
    known.learn(SHOP, ["192.0.2.8"], ["other.test."], 30, 1)
    assert known.lookup(SHOP, WEB, 1) == ("www.example.com", "edge.example.net", "other.test")
    known.learn(SHOP, ["192.0.2.8"], ["."], 30, 1)
    assert len(known) == 2


def test_the_time_to_live_and_the_grace() -> None:
    known = Names(Losses())
    known.learn(SHOP, ["192.0.2.8"], ["short.test"], 0, 0)
    known.learn(SHOP, ["192.0.2.8"], ["long.test"], 1 << 31, 0)
    assert known.lookup(SHOP, WEB, GRACE_NS) == ("short.test", "long.test")
    assert known.lookup(SHOP, WEB, GRACE_NS + 1) == ("long.test",)
    assert known.lookup(SHOP, WEB, MAX_TTL * SECOND + GRACE_NS) == ("long.test",)
    assert known.lookup(SHOP, WEB, MAX_TTL * SECOND + GRACE_NS + 1) == ()
    assert len(known) == 0
    known.learn(SHOP, ["192.0.2.8"], ["a.test"], 100, 0)
    known.learn(SHOP, ["192.0.2.8"], ["a.test"], 0, 1)  # a later answer that lasts shorter takes nothing back
    assert known.lookup(SHOP, WEB, 100 * SECOND + GRACE_NS) == ("a.test",)


def test_the_names_of_an_address_are_bounded() -> None:
    known = Names(Losses())
    for number in range(MAX_NAMES + 2):
        known.learn(SHOP, ["192.0.2.8"], [f"{number}.test"], 30, number)
    assert known.lookup(SHOP, WEB, 99) == tuple(f"{number}.test" for number in range(2, MAX_NAMES + 2))


def test_one_string_is_kept_of_a_name_that_many_were_told_and_what_strangers_ask_for_is_forgotten() -> None:
    known = Names(Losses())
    for client, others in ((SHOP, []), (API, ["edge.test."])):
        known.learn(client, ["192.0.2.8"], ["Shared.test.", *others], 30, 0)
    assert known.lookup(SHOP, WEB, 0)[0] is known.lookup(API, WEB, 0)[0]
    for number in range(names.MEMO_LIMIT + 2):
        known.learn(SHOP, ["192.0.2.8"], [f"{number}.stranger.test."], 30, 0)
    assert names.normal.cache_info().currsize == names.MEMO_LIMIT
    assert names._wanted.cache_info().currsize == names.MEMO_LIMIT
    assert all("stranger" in name for name in known.lookup(SHOP, WEB, 0))


def test_the_addresses_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(names, "MAX_ADDRESSES", 3)
    losses = Losses()
    known = Names(losses)
    for number in range(3):
        known.learn(SHOP, [f"192.0.2.{number}"], ["a.test"], 30, 0)
    assert known.lookup(SHOP, packed("192.0.2.0"), 0) == ("a.test",)  # used, so kept
    known.learn(SHOP, ["192.0.2.3"], ["a.test"], 30, 0)
    assert len(known) == 3
    assert known.lookup(SHOP, packed("192.0.2.0"), 0) == ("a.test",)
    assert known.lookup(SHOP, packed("192.0.2.1"), 0) == ()
    assert losses.snapshot() == {("names", "too many addresses with names"): 1}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([SHOP, API]),
            st.sampled_from(["192.0.2.8", "2001:db8::8"]),
            st.lists(st.sampled_from(["a.test", "B.test.", "c.test", "."]), max_size=3),
            st.integers(0, 90),
            st.integers(0, 200),
        )
    )
)
def test_a_name_is_there_exactly_as_long_as_an_answer_says(answers: list[tuple]) -> None:
    known = Names(Losses())
    expected: dict[tuple[bytes, bytes, str], int] = {}
    for client, address, told, ttl, at in sorted(answers, key=lambda answer: answer[4]):
        known.learn(client, [address], told, ttl, at * SECOND)
        for name in told:
            key = (client, packed(address), name.lower().rstrip("."))
            expected[key] = max(expected.get(key, 0), (at + ttl) * SECOND + GRACE_NS)
    for now in (200, 260, 300, 400):
        for client in (SHOP, API):
            for address in (WEB, WEB6):
                alive = {
                    name
                    for (who, where, name), ends in expected.items()
                    if name and (who, where) == (client, address) and ends >= now * SECOND
                }
                assert set(known.lookup(client, address, now * SECOND)) == alive
