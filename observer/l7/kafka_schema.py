"""The layouts of Kafka's requests and responses: one table of field programs, for this parser and for the kernel's.

Plain data, from Apache's message schemas (KIP-482) up to Kafka 4.3: per API key its name, the versions whose layout is
told, the first flexible version, and what stands in a request and in a response, as far as the last field that is read
here. Of keys and versions it does not list nothing but the header can be known.

A program is a row of words: a number skips that many octets; `string` and `bytes` are skipped by their length; `4*` is
an array of 4-octet elements; `[ ... ]` an array of structs, `( ... )` a struct, `?( ... )` one that may be null; what
is read are `topic`, topic `id`, `acks`, `error`, and `kind` with `resource`, the type and name of a config resource.
`@3+`, `@-12`, `@2-4` and `@0` restrict a word to versions. Tagged fields follow every struct of a flexible version.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple


class Kind(enum.IntEnum):
    """What one word of a program is."""

    SKIP = enum.auto()  # `size` octets
    STRING = enum.auto()  # two octets of length; compact: a varint, one more than the length
    BYTES = enum.auto()  # four octets of length; compact as a string
    LIST = enum.auto()  # an array of `size` octets each
    STRINGS = enum.auto()
    TOPICS = enum.auto()  # an array of topic names
    ARRAY = enum.auto()  # of structs
    STRUCT = enum.auto()
    OPTIONAL = enum.auto()  # an octet, negative for null, and a struct
    TOPIC = enum.auto()
    ID = enum.auto()  # a topic's, 16 octets; all zero: none
    ACKS = enum.auto()  # int16
    ERROR = enum.auto()  # int16
    RESOURCE_KIND = enum.auto()  # int8
    RESOURCE = enum.auto()


class Op(NamedTuple):
    """One field, or one array of structs."""

    kind: Kind
    first: int  # versions that have it
    last: int
    size: int = 0
    body: tuple[Op, ...] = ()


@dataclass(eq=False, slots=True)
class Api:
    """One API key."""

    key: int
    name: str  # as a CiliumNetworkPolicy writes it
    first: int  # versions whose layout is told
    last: int
    flexible: int | None  # since this version
    request: str
    response: str


NEWEST: Final = 0x7FFF
TOPIC_RESOURCE: Final = 2
"""The `kind` of a config resource that is a topic."""

PRODUCE: Final = 0
METADATA: Final = 3
CONTROLLED_SHUTDOWN: Final = 7
SASL_HANDSHAKE: Final = 17
API_VERSIONS: Final = 18

_WORDS: Final = {
    "string": Kind.STRING,
    "bytes": Kind.BYTES,
    "string*": Kind.STRINGS,
    "topic*": Kind.TOPICS,
    "topic": Kind.TOPIC,
    "id": Kind.ID,
    "acks": Kind.ACKS,
    "error": Kind.ERROR,
    "kind": Kind.RESOURCE_KIND,
    "resource": Kind.RESOURCE,
}
_OPENING: Final = {"[": Kind.ARRAY, "(": Kind.STRUCT, "?(": Kind.OPTIONAL}
_WORD: Final = re.compile(r"([^@]+)(?:@(\d*)(?:(\+)|(-)(\d+))?)?")


@cache
def program(words: str) -> tuple[Op, ...]:
    """The fields that the words of a program tell."""
    return tuple(_fields(iter(words.split())))


def _fields(words: Iterator[str]) -> list[Op]:
    """The fields up to the end, or up to a closing bracket, which comes back as the last one with its versions."""
    out: list[Op] = []
    for word in words:
        match = _WORD.fullmatch(word)
        assert match is not None, word
        name, low, _, until, high = match.groups()
        first = int(low) if low else 0
        last = int(high) if until else first if low and not match[3] else NEWEST
        if name in ("]", ")"):
            out.append(Op(Kind.STRUCT, first, last))
            return out
        if name in _OPENING:
            *body, end = _fields(words)
            out.append(Op(_OPENING[name], end.first, end.last, 0, tuple(body)))
        elif name in _WORDS:
            out.append(Op(_WORDS[name], first, last))
        else:
            out.append(Op(Kind.LIST if name[-1] == "*" else Kind.SKIP, first, last, int(name.rstrip("*"))))
    return out


# fmt: off
_TABLE: Final = (
    Api(0, "produce", 0, 13, 9,
        "string@3+ acks 4 [ topic@-12 id@13+ [ 4 bytes ] ]",
        "[ string@-12 16@13+ [ 4 error 8 8@2+ 8@5+ [ 4 string ]@8+ string@8+ ] ]"),
    Api(1, "fetch", 0, 18, 12,
        "4@-14 8 4@3+ 1@4+ 8@7+ [ topic@-12 id@13+ [ 4 4@9+ 8 4@12+ 8@5+ 4 ] ]",
        "4@1+ error@7+ 4@7+ [ string@-12 16@13+ [ 4 error 8 8@4+ 8@5+ [ 16 ]@4+ 4@11+ bytes ] ]"),
    Api(2, "offsets", 0, 11, 6, "4 1@2+ [ topic [ 4 4@4+ 8 4@0 ] ]", "4@2+ [ string [ 4 error 8*@0 16@1+ 4@4+ ] ]"),
    Api(3, "metadata", 0, 13, 9,
        "[ id@10+ topic ]",
        ("4@3+ [ 4 string 4 string@1+ ] string@2+ 4@1+ [ error topic id@10+ 1@1+ [ error 8 4@7+ 4* 4* 4*@5+ ] "
            "4@8+ ] 4@8-10 error@13+")),
    Api(4, "leaderandisr", 0, 7, 4,
        "4 1@7+ 4 8@2+ 1@5+ [ topic 16 4* 4 4* 1@1+ ]@-1 [ topic id@5+ [ 16 4* 4 4* 4*@3+ 4*@3+ 1 1@6+ ] ]@2+",
        "error"),
    Api(5, "stopreplica", 0, 4, 2, "4 1@4+ 4 8@1+ 1@-2 [ topic 4 ]@0 [ topic 4* ]@1-2 [ topic [ 9 ] ]@3+", "error"),
    Api(6, "updatemetadata", 0, 8, 6,
        "4 1@8+ 1@8+ 4 8@5+ [ topic 16 4* 4 4* 4*@4+ ]@-4 [ topic id@7+ [ 16 4* 4 4* 4* ] ]@5+",
        "error"),
    Api(7, "controlledshutdown", 0, 3, 3, "", "error"),
    Api(8, "offsetcommit", 0, 10, 8,
        "string 4@1+ string@1+ string@7+ 8@2-4 [ topic@-9 id@10+ [ 12 4@6+ 8@1 string ] ]",
        "4@3+ [ string@-9 16@10+ [ 4 error ] ]"),
    Api(9, "offsetfetch", 0, 10, 6,
        "string@-7 [ topic 4* ]@-7 [ string string@9+ 4@9+ [ topic@-9 id@10+ 4* ] ]@8+",
        ("4@3+ [ string [ 12 4@5+ string error ] ]@-7 error@2-7 [ string [ string@-9 16@10+ [ 16 string error "
            "] ] error ]@8+")),
    Api(10, "findcoordinator", 0, 6, 3,
        "",
        "4@1+ error@-3 string@1-3 4@-3 string@-3 4@-3 [ string 4 string 4 error string ]@4+"),
    Api(11, "joingroup", 0, 9, 6, "", "4@2+ error"),
    Api(12, "heartbeat", 0, 4, 4, "", "4@1+ error"),
    Api(13, "leavegroup", 0, 5, 4, "", "4@1+ error [ string string error ]@3+"),
    Api(14, "syncgroup", 0, 5, 4, "", "4@1+ error"),
    Api(15, "describegroups", 0, 6, 5,
        "",
        ("4@1+ [ error string@6+ string string string string [ string string@4+ string string bytes bytes ] "
            "4@3+ ]")),
    Api(16, "listgroups", 0, 5, 3, "", "4@1+ error"),
    Api(17, "saslhandshake", 0, 1, None, "", "error"),
    Api(18, "apiversions", 0, 4, 3, "", "error"),
    Api(19, "createtopics", 0, 7, 5,
        "[ topic 6 [ 4 4* ] [ string string ] ]",
        "4@2+ [ topic id@7+ error string@1+ 6@5+ [ topic string 3 ]@5+ ]"),
    Api(20, "deletetopics", 0, 6, 4, "[ topic id ]@6+ topic*@-5", "4@1+ [ string 16@6+ error string@5+ ]"),
    Api(21, "deleterecords", 0, 2, 2, "[ topic [ 12 ] ]", "4 [ string [ 12 error ] ]"),
    Api(22, "initproducerid", 0, 6, 2, "", "4 error"),
    Api(23, "offsetforleaderepoch", 0, 4, 4, "4@3+ [ topic [ 4 4@2+ 4 ] ]", "4@2+ [ string [ error 4 4@1+ 8 ] ]"),
    Api(24, "addpartitionstotxn", 0, 5, 3,
        "[ string 11 [ topic 4* ] ]@4+ string@-3 10@-3 [ topic 4* ]@-3",
        "4 error@4+ [ string [ string [ 4 error ] ] ]@4+ [ string [ 4 error ] ]@-3"),
    Api(25, "addoffsetstotxn", 0, 4, 3, "", "4 error"),
    Api(26, "endtxn", 0, 5, 3, "", "4 error"),
    Api(27, "writetxnmarkers", 0, 2, 1, "[ 11 [ topic 4* ] 4 1@2+ ]", "[ 8 [ string [ 4 error ] ] ]"),
    Api(28, "txnoffsetcommit", 0, 5, 3,
        "string string 10 4@3+ string@3+ string@3+ [ topic [ 12 4@2+ string ] ]",
        "4 [ string [ 4 error ] ]"),
    Api(29, "describeacls", 0, 3, 2, "", "4 error"),
    Api(30, "createacls", 0, 3, 2, "", "4 [ error string ]"),
    Api(31, "deleteacls", 0, 3, 2, "", "4 [ error string [ error string 1 string 1@1+ string string 2 ] ]"),
    Api(32, "describeconfigs", 0, 4, 4,
        "[ kind resource string* ]",
        "4 [ error string 1 string [ string string 1 1@1+ 1@0 1 [ string string 1 ]@1+ 1@3+ string@3+ ] ]"),
    Api(33, "alterconfigs", 0, 2, 2, "[ kind resource [ string string ] ]", "4 [ error string 1 string ]"),
    Api(34, "alterreplicalogdirs", 0, 2, 2, "[ string [ topic 4* ] ]", "4 [ string [ 4 error ] ]"),
    Api(35, "describelogdirs", 0, 5, 2, "[ topic 4* ]", "4 error@3+ [ error string [ string [ 21 ] ] 16@4+ 1@5+ ]"),
    Api(36, "saslauthenticate", 0, 2, 2, "", "error"),
    Api(37, "createpartitions", 0, 3, 2, "[ topic 4 [ 4* ] ]", "4 [ string error string ]"),
    Api(38, "createdelegationtoken", 0, 3, 2, "", "error"),
    Api(39, "renewdelegationtoken", 0, 2, 2, "", "error"),
    Api(40, "expiredelegationtoken", 0, 2, 2, "", "error"),
    Api(41, "describedelegationtoken", 0, 3, 2, "", "error"),
    Api(42, "deletegroups", 0, 2, 2, "", "4 [ string error ]"),
    Api(43, "electleaders", 0, 2, 2, "1@1+ [ topic 4* ]", "4 error@1+ [ string [ 4 error string ] ]"),
    Api(44, "incrementalalterconfigs", 0, 1, 1,
        "[ kind resource [ string 1 string ] ]",
        "4 [ error string 1 string ]"),
    Api(45, "alterpartitionreassignments", 0, 1, 0,
        "4 1@1+ [ topic [ 4 4* ] ]",
        "4 1@1+ error string [ string [ 4 error string ] ]"),
    Api(46, "listpartitionreassignments", 0, 0, 0, "4 [ topic 4* ]", "4 error"),
    Api(47, "offsetdelete", 0, 0, None, "string [ topic [ 4 ] ]", "error 4 [ string [ 4 error ] ]"),
    Api(48, "describeclientquotas", 0, 1, 1, "", "4 error"),
    Api(49, "alterclientquotas", 0, 1, 1, "", "4 [ error string [ string string ] ]"),
    Api(50, "describeuserscramcredentials", 0, 0, 0, "", "4 error string [ string error string [ 5 ] ]"),
    Api(51, "alteruserscramcredentials", 0, 0, 0, "", "4 [ string error string ]"),
    Api(52, "vote", 0, 2, 0, "string 4@1+ [ topic [ 12 32@1+ 12 1@2+ ] ]", "error [ string [ 4 error 9 ] ]"),
    Api(53, "beginquorumepoch", 0, 1, 1, "string 4@1+ [ topic [ 4 16@1+ 8 ] ]", "error [ string [ 4 error 8 ] ]"),
    Api(54, "endquorumepoch", 0, 1, 1, "string [ topic [ 12 [ 20 ]@1+ 4*@0 ] ]", "error [ string [ 4 error 8 ] ]"),
    Api(55, "describequorum", 0, 2, 0,
        "[ topic [ 4 ] ]",
        "error string@2+ [ string [ 4 error string@2+ 16 [ 4 16@2+ 8 16@1+ ] [ 4 16@2+ 8 16@1+ ] ] ]"),
    Api(56, "alterpartition", 2, 3, 2, "12 [ id [ 8 [ 12 ]@3+ 4*@-2 5 ] ]", "4 error [ 16 [ 4 error 8 4* 5 ] ]"),
    Api(57, "updatefeatures", 0, 2, 0, "", "4 error string [ string error string ]@-1"),
    Api(58, "envelope", 0, 0, 0, "", "bytes error"),
    Api(59, "fetchsnapshot", 0, 1, 0, "8 [ topic [ 8 ( 12 ) 8 ] ]", "4 error [ string [ 4 error ( 12 ) 16 bytes ] ]"),
    Api(60, "describecluster", 0, 2, 0, "", "4 error"),
    Api(61, "describeproducers", 0, 0, 0, "[ topic 4* ]", "4 [ string [ 4 error string [ 36 ] ] ]"),
    Api(62, "brokerregistration", 0, 4, 0, "", "4 error"),
    Api(63, "brokerheartbeat", 0, 2, 0, "", "4 error"),
    Api(64, "unregisterbroker", 0, 0, 0, "", "4 error"),
    Api(65, "describetransactions", 0, 0, 0, "", "4 [ error string string 22 [ string 4* ] ]"),
    Api(66, "listtransactions", 0, 2, 0, "", "4 error"),
    Api(67, "allocateproducerids", 0, 0, 0, "", "4 error"),
    Api(68, "consumergroupheartbeat", 0, 1, 0,
        "string string 4 string string 4 topic* string@1+ string [ id 4* ]",
        "4 error"),
    Api(69, "consumergroupdescribe", 0, 1, 0,
        "",
        ("4 [ error string string string 8 string [ string string string 4 string string string* string ( [ 16 "
            "string 4* ] ) ( [ 16 string 4* ] ) 1@1+ ] 4 ]")),
    Api(70, "controllerregistration", 0, 0, 0, "", "4 error"),
    Api(71, "gettelemetrysubscriptions", 0, 0, 0, "", "4 error"),
    Api(72, "pushtelemetry", 0, 0, 0, "", "4 error"),
    Api(73, "assignreplicastodirs", 0, 0, 0, "12 [ 16 [ id [ 4 ] ] ]", "4 error [ 16 [ 16 [ 4 error ] ] ]"),
    Api(74, "listconfigresources", 0, 1, 0, "", "4 error"),
    Api(75, "describetopicpartitions", 0, 0, 0,
        "[ topic ]",
        "4 [ error string 17 [ error 12 4* 4* 4* 4* 4* ] 4 ]"),
    Api(76, "sharegroupheartbeat", 1, 1, 1, "string string 4 string topic*", "4 error"),
    Api(77, "sharegroupdescribe", 1, 1, 1,
        "",
        ("4 [ error string string string 8 string [ string string 4 string string string* ( [ 16 string 4* ] ) "
            "] 4 ]")),
    Api(78, "sharefetch", 1, 2, 1,
        "string string 24 2@2+ [ id [ 4 [ 16 1* ] ] ]",
        "4 error string 4 [ 16 [ 4 error string 2 string ( 8 ) bytes [ 18 ] ] ]"),
    Api(79, "shareacknowledge", 1, 2, 1,
        "string string 4 1@2+ [ id [ 4 [ 16 1* ] ] ]",
        "4 error string 4@2+ [ 16 [ 4 error string ( 8 ) ] ]"),
    Api(80, "addraftvoter", 0, 1, 0, "", "4 error"),
    Api(81, "removeraftvoter", 0, 0, 0, "", "4 error"),
    Api(82, "updateraftvoter", 0, 0, 0, "", "4 error"),
    Api(83, "initializesharegroupstate", 0, 0, 0, "string [ id [ 16 ] ]", "[ 16 [ 4 error string ] ]"),
    Api(84, "readsharegroupstate", 0, 0, 0, "string [ id [ 8 ] ]", "[ 16 [ 4 error string 12 [ 19 ] ] ]"),
    Api(85, "writesharegroupstate", 0, 1, 0, "string [ id [ 20 4@1+ [ 19 ] ] ]", "[ 16 [ 4 error string ] ]"),
    Api(86, "deletesharegroupstate", 0, 0, 0, "string [ id [ 4 ] ]", "[ 16 [ 4 error string ] ]"),
    Api(87, "readsharegroupstatesummary", 0, 1, 0, "string [ id [ 8 ] ]", "[ 16 [ 4 error string 16 4@1+ ] ]"),
    Api(88, "streamsgroupheartbeat", 0, 0, 0,
        ("string string 8 string string 4 ?( 4 [ string topic* string* [ topic 6 [ string string ] ] topic* [ "
            "topic 6 [ string string ] ] [ 2* 2* 2* ] ] )"),
        "4 error"),
    Api(89, "streamsgroupdescribe", 0, 0, 0,
        "",
        ("4 [ error string string string 8 ?( 4 [ string string* string* [ string 6 [ string string ] ] [ "
            "string 6 [ string string ] ] ] ) [ string 4 string string string string 4 string ?( string 2 ) [ "
            "string string ] [ string 12 ] [ string 12 ] ( [ string 4* ] [ string 4* ] [ string 4* ] ) ( [ string "
            "4* ] [ string 4* ] [ string 4* ] ) 1 ] 4 ]")),
    Api(90, "describesharegroupoffsets", 0, 1, 0,
        "[ string [ topic 4* ] ]",
        "4 [ string [ string 16 [ 16 8@1+ error string ] ] error string ]"),
    Api(91, "altersharegroupoffsets", 0, 0, 0,
        "string [ topic [ 12 ] ]",
        "4 error string [ string 16 [ 4 error string ] ]"),
    Api(92, "deletesharegroupoffsets", 0, 0, 0, "string [ topic ]", "4 error string [ string 16 error string ]"),
)
# fmt: on

APIS: Final[dict[int, Api]] = {api.key: api for api in _TABLE}
KEYS: Final[dict[str, int]] = {api.name: api.key for api in _TABLE}


def name_of(key: int) -> str:
    """The name of an API key, its number where it has none."""
    api = APIS.get(key)
    return api.name if api is not None else str(key)
