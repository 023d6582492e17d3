import pytest

from observer.errors import PolicyError
from tests.policy.town import Town, cnp


def rules(kind, subject, peers, ports="{port: '80', protocol: TCP}", way="ingress"):
    entry = f"{{{peers}toPorts: [{{ports: [{ports}], rules: {{{kind}: [{{}}]}}}}]}}"
    return f"{{endpointSelector: {subject}, {way}: [{entry}]}}"


VAULT = "{matchLabels: {role: vault}}"
TELLERS = "fromEndpoints: [{matchLabels: {role: teller}}], "
GUARDS = "fromEndpoints: [{matchLabels: {role: guard}}], "

# title, http rule, kafka rule, whether they clash
PAIRS = [
    ("same peer and port", rules("http", VAULT, TELLERS), rules("kafka", VAULT, TELLERS), True),
    ("other peers", rules("http", VAULT, TELLERS), rules("kafka", VAULT, GUARDS), False),
    ("any peer", rules("http", VAULT, ""), rules("kafka", VAULT, GUARDS), True),
    ("any peer and nobody", rules("http", VAULT, ""), rules("kafka", VAULT, "fromEndpoints: [], "), False),
    ("one pod by two selectors", rules("http", VAULT, GUARDS), rules("kafka", "{}", "fromEndpoints: [{}], "), True),
    (
        "no pod by two selectors",
        rules("http", VAULT, GUARDS),
        rules("kafka", VAULT, "fromEndpoints: [{matchLabels: {shift: day}}], "),
        False,
    ),
    ("other subjects", rules("http", VAULT, ""), rules("kafka", "{matchLabels: {role: guard}}", ""), False),
    ("the same unknown subject", *(rules(kind, "{matchLabels: {role: x}}", "") for kind in ("http", "kafka")), True),
    ("other ports", rules("http", VAULT, ""), rules("kafka", VAULT, "", "{port: '81', protocol: TCP}"), False),
    (
        "ranges",
        rules("http", VAULT, "", "{port: '70', endPort: 80, protocol: TCP}"),
        rules("kafka", VAULT, "", "{port: '80', endPort: 90, protocol: TCP}"),
        True,
    ),
    (
        "a name and its number",
        rules("http", VAULT, "", "{port: ledger, protocol: TCP}"),
        rules("kafka", VAULT, "", "{port: '7070', protocol: TCP}"),
        True,
    ),
    (
        "a name and another number",
        rules("http", VAULT, "", "{port: ledger, protocol: TCP}"),
        rules("kafka", VAULT, "", "{port: '7071', protocol: TCP}"),
        False,
    ),
    (
        "two ways",
        rules("http", VAULT, "", way="egress"),
        rules("kafka", VAULT, ""),
        False,
    ),
    (
        "overlapping CIDRs",
        rules("http", VAULT, "fromCIDR: [10.0.0.0/8], "),
        rules("kafka", VAULT, "fromCIDR: [10.7.0.0/16], "),
        True,
    ),
    (
        "apart CIDRs",
        rules("http", VAULT, "fromCIDR: [10.0.0.0/8], "),
        rules("kafka", VAULT, "fromCIDR: [11.7.0.0/16], "),
        False,
    ),
    (
        "a CIDR and the world",
        rules("http", VAULT, "fromCIDR: [10.0.0.0/8], "),
        rules("kafka", VAULT, "fromEntities: [world], "),
        True,
    ),
    (
        "a CIDR and the cluster",
        rules("http", VAULT, "fromCIDR: [10.0.0.0/8], "),
        rules("kafka", VAULT, "fromEntities: [cluster], "),
        False,
    ),
    (
        "an entity and a pod",
        rules("http", VAULT, "fromEntities: [cluster], "),
        rules("kafka", VAULT, TELLERS),
        True,
    ),
]


@pytest.mark.parametrize(("http", "kafka", "clash"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_http_and_kafka_for_one_peer_and_port_in_two_documents(tmp_path, http, kafka, clash):
    text = cnp("web", http) + cnp("queue", kafka)
    if not clash:
        Town(tmp_path, text)
        return
    with pytest.raises(PolicyError) as caught:
        Town(tmp_path, text)
    assert str(caught.value) == (
        f"{tmp_path}/policy.yaml:10: policy bank/queue: kafka rules for a peer and port that have http rules in policy "
        f"bank/web ({tmp_path}/policy.yaml:5); keep one of the two"
    )
