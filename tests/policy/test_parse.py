# ruff: noqa: E501 - a policy is one line of the table

import pytest

from observer.errors import PolicyError
from observer.policy.load import load_policies
from observer.policy.model import Cidr, CidrRule, IcmpType, Ports
from tests.policy.town import ccnp, cnp

E = "endpointSelector: {}, "
ONE_PORT = "{port: '1'}"
ONE_TYPE = "{type: 8}"
TCP = "ports: [{port: '80', protocol: TCP}]"


def http(rule):
    return f"{{{E}ingress: [{{toPorts: [{{{TCP}, rules: {{http: [{rule}]}}}}]}}]}}"


def kafka(rule):
    return f"{{{E}ingress: [{{toPorts: [{{{TCP}, rules: {{kafka: [{rule}]}}}}]}}]}}"


# title, spec, what the message says after file:line
REFUSED = [
    ("no selector", "{ingress: [{}]}", "spec: endpointSelector is missing; write endpointSelector: {} for every pod"),
    ("null selector", "{endpointSelector: null, ingress: [{}]}", "spec: endpointSelector is missing"),
    ("node selector", "{nodeSelector: {}, ingress: [{}]}", "spec.nodeSelector: nodeSelector is not supported yet"),
    (
        "no section",
        "{endpointSelector: {}}",
        "spec: a rule needs at least one of ingress, ingressDeny, egress, egressDeny",
    ),
    ("empty sections", f"{{{E}ingress: [], egress: null, egressDeny: []}}", "spec: a rule needs at least one of"),
    ("switch without section", f"{{{E}enableDefaultDeny: {{ingress: true}}}}", "spec: a rule needs at least one of"),
    (
        "switch no truth",
        f"{{{E}ingress: [{{}}], enableDefaultDeny: {{ingress: 'no'}}}}",
        "spec.enableDefaultDeny.ingress: must be true or false, not 'no'",
    ),
    (
        "unknown switch",
        f"{{{E}ingress: [{{}}], enableDefaultDeny: {{egres: false}}}}",
        "spec.enableDefaultDeny.egres: unknown field; did you mean egress?",
    ),
    ("unknown field", f"{{{E}ingres: [{{}}]}}", "spec.ingres: unknown field; did you mean ingress?"),
    (
        "unknown deep field",
        f"{{{E}ingress: [{{}}, {{fromEndpoint: []}}]}}",
        "spec.ingress[1].fromEndpoint: unknown field; did you mean fromEndpoints?",
    ),
    ("wrong way", f"{{{E}ingress: [{{toEndpoints: []}}]}}", "spec.ingress[0].toEndpoints: unknown field"),
    (
        "operator of a book's length",
        f"{{endpointSelector: {{matchExpressions: [{{key: a, operator: {'x' * 5000}}}]}}, ingress: [{{}}]}}",
        f"spec.endpointSelector.matchExpressions[0].operator: unknown operator '{'x' * 57}...'; one of",
    ),
    (
        "port of a book's length",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: {'x' * 5000}}}]}}]}}]}}",
        f"spec.ingress[0].toPorts[0].ports[0].port: must be a number from 1 to 65535, 0 for every port, or a name, "
        f"not '{'x' * 57}...'",
    ),
    ("section no list", f"{{{E}ingress: {{}}}}", "spec.ingress: must be a list, not a mapping"),
    ("entry no mapping", f"{{{E}ingress: [null]}}", "spec.ingress[0]: must be a mapping"),
    (
        "two peers",
        f"{{{E}egress: [{{toEndpoints: [{{}}], toEntities: [world]}}]}}",
        "spec.egress[0].toEntities: toEndpoints and toEntities cannot be combined",
    ),
    (
        "CIDR and set",
        f"{{{E}ingress: [{{fromCIDR: [10.0.0.0/8], fromCIDRSet: [{{cidr: 10.0.0.0/8}}]}}]}}",
        "spec.ingress[0].fromCIDRSet: fromCIDR and fromCIDRSet cannot be combined",
    ),
    (
        "two peers in a deny",
        f"{{{E}ingressDeny: [{{fromEndpoints: [{{}}], fromCIDR: [10.0.0.0/8]}}]}}",
        "spec.ingressDeny[0].fromCIDR: fromEndpoints and fromCIDR cannot be combined",
    ),
    (
        "ICMP and ports",
        f"{{{E}ingress: [{{toPorts: [{{{TCP}}}], icmps: [{{fields: [{{type: 8}}]}}]}}]}}",
        "spec.ingress[0].icmps: icmps and toPorts cannot be combined",
    ),
    (
        "toFQDNs",
        f"{{{E}egress: [{{toFQDNs: [{{matchName: a.test}}]}}]}}",
        "spec.egress[0].toFQDNs: toFQDNs is not supported yet",
    ),
    ("empty toFQDNs", f"{{{E}egress: [{{toFQDNs: []}}]}}", "spec.egress[0].toFQDNs: toFQDNs is not supported yet"),
    (
        "toServices",
        f"{{{E}egress: [{{toServices: [{{}}]}}]}}",
        "spec.egress[0].toServices: toServices is not supported yet",
    ),
    ("toGroups", f"{{{E}egress: [{{toGroups: [{{}}]}}]}}", "spec.egress[0].toGroups: toGroups is not supported yet"),
    (
        "fromNodes",
        f"{{{E}ingress: [{{fromNodes: [{{}}]}}]}}",
        "spec.ingress[0].fromNodes: fromNodes is not supported yet",
    ),
    (
        "fromRequires",
        f"{{{E}ingress: [{{fromRequires: [{{}}]}}]}}",
        "spec.ingress[0].fromRequires: fromRequires is not supported yet",
    ),
    (
        "authentication",
        f"{{{E}ingress: [{{authentication: {{mode: required}}}}]}}",
        "spec.ingress[0].authentication: authentication is not supported yet",
    ),
    (
        "dns",
        f"{{{E}egress: [{{toPorts: [{{ports: [{{port: '53'}}], rules: {{dns: [{{matchPattern: '*'}}]}}}}]}}]}}",
        "spec.egress[0].toPorts[0].rules.dns: dns is not supported yet",
    ),
    (
        "dns on ingress",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '53'}}], rules: {{dns: [{{matchPattern: '*'}}]}}}}]}}]}}",
        "spec.ingress[0].toPorts[0].rules.dns: dns is not supported yet",
    ),
    (
        "l7proto",
        f"{{{E}egress: [{{toPorts: [{{{TCP}, rules: {{l7proto: x, l7: [{{}}]}}}}]}}]}}",
        "rules.l7proto: l7proto is not supported yet",
    ),
    (
        "serverNames",
        f"{{{E}egress: [{{toPorts: [{{{TCP}, serverNames: [a.test]}}]}}]}}",
        "serverNames: serverNames is not supported yet",
    ),
    (
        "terminatingTLS",
        f"{{{E}egress: [{{toPorts: [{{{TCP}, terminatingTLS: {{}}}}]}}]}}",
        "terminatingTLS: terminatingTLS is not supported yet",
    ),
    (
        "listener",
        f"{{{E}egress: [{{toPorts: [{{{TCP}, listener: {{}}}}]}}]}}",
        "listener: listener is not supported yet",
    ),
    (
        "CIDR group",
        f"{{{E}egress: [{{toCIDRSet: [{{cidrGroupRef: x}}]}}]}}",
        "spec.egress[0].toCIDRSet[0].cidrGroupRef: cidrGroupRef is not supported yet",
    ),
    (
        "rules in a deny",
        f"{{{E}ingressDeny: [{{toPorts: [{{{TCP}, rules: {{}}}}]}}]}}",
        "spec.ingressDeny[0].toPorts[0].rules: unknown field",
    ),
    (
        "entity",
        f"{{{E}ingress: [{{fromEntities: [internet]}}]}}",
        "spec.ingress[0].fromEntities[0]: unknown entity 'internet'; one of all, cluster",
    ),
    (
        "bare address in a set",
        f"{{{E}ingress: [{{fromCIDRSet: [{{cidr: 10.0.0.1}}]}}]}}",
        "spec.ingress[0].fromCIDRSet[0].cidr: must be a CIDR with its length, as in 192.0.2.0/24, not '10.0.0.1'",
    ),
    (
        "netmask",
        f"{{{E}ingress: [{{fromCIDR: [10.0.0.0/255.0.0.0]}}]}}",
        "spec.ingress[0].fromCIDR[0]: must be an address or CIDR",
    ),
    (
        "no address",
        f"{{{E}ingress: [{{fromCIDR: [ten]}}]}}",
        "spec.ingress[0].fromCIDR[0]: must be an address or CIDR, not 'ten'",
    ),
    (
        "except outside",
        f"{{{E}ingress: [{{fromCIDRSet: [{{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}}]}}",
        "except[0]: '11.0.0.0/16' does not lie inside '10.0.0.0/8'",
    ),
    (
        "except wider",
        f"{{{E}ingress: [{{fromCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.0.0.0/7]}}]}}]}}",
        "except[0]: '10.0.0.0/7' does not lie inside",
    ),
    (
        "except of the other family",
        f"{{{E}ingress: [{{fromCIDRSet: [{{cidr: '::/0', except: [10.0.0.0/8]}}]}}]}}",
        "except[0]: '10.0.0.0/8' does not lie inside",
    ),
    (
        "port as number",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: 80}}]}}]}}]}}",
        'ports[0].port: must be a string, not a number (80); quote it: "80"',
    ),
    (
        "port too large",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '65536'}}]}}]}}]}}",
        "ports[0].port: must be a number from 1 to 65535, 0 for every port, or a name",
    ),
    (
        "port negative",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '-1'}}]}}]}}]}}",
        "ports[0].port: must be a number from 1",
    ),
    (
        "port empty",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: ''}}]}}]}}]}}",
        "ports[0].port: must be a number from 1",
    ),
    ("port missing", f"{{{E}ingress: [{{toPorts: [{{ports: [{{protocol: TCP}}]}}]}}]}}", "ports[0]: port is missing"),
    (
        "range reversed",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '80', endPort: 79}}]}}]}}]}}",
        "ports[0].endPort: must not be smaller than port 80",
    ),
    (
        "range of a name",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: web, endPort: 79}}]}}]}}]}}",
        "ports[0].endPort: a named port has no endPort",
    ),
    (
        "range of all",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '0', endPort: 79}}]}}]}}]}}",
        "ports[0].endPort: port 0 is every port",
    ),
    (
        "range as string",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '1', endPort: '2'}}]}}]}}]}}",
        "ports[0].endPort: must be a number from 0 to 65535, not '2'",
    ),
    (
        "protocol",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '1', protocol: QUIC}}]}}]}}]}}",
        "ports[0].protocol: unknown protocol 'QUIC', one of TCP, UDP, SCTP, ANY",
    ),
    (
        "ICMP as protocol",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '8', protocol: ICMP}}]}}]}}]}}",
        "write an icmps rule",
    ),
    (
        "too many ports",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{', '.join([ONE_PORT] * 41)}]}}]}}]}}",
        "toPorts[0].ports: more than 40 ports",
    ),
    (
        "L7 without protocol",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '80'}}], rules: {{http: [{{}}]}}}}]}}]}}",
        "ports[0]: L7 rules need protocol: TCP written out",
    ),
    (
        "L7 over ANY",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: ANY}}], rules: {{http: [{{}}]}}}}]}}]}}",
        "ports[0]: L7 rules need protocol: TCP",
    ),
    (
        "L7 over UDP",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}, {{port: '80', protocol: UDP}}], rules: {{kafka: [{{}}]}}}}]}}]}}",
        "ports[1]: L7 rules need protocol: TCP",
    ),
    (
        "L7 on port 0",
        f"{{{E}ingress: [{{toPorts: [{{ports: [{{port: '0', protocol: TCP}}], rules: {{http: [{{}}]}}}}]}}]}}",
        "ports[0]: L7 rules cannot be used with port 0",
    ),
    (
        "L7 without ports",
        f"{{{E}ingress: [{{toPorts: [{{rules: {{http: [{{}}]}}}}]}}]}}",
        "toPorts[0]: rules need ports with protocol: TCP",
    ),
    (
        "two kinds",
        f"{{{E}ingress: [{{toPorts: [{{{TCP}, rules: {{http: [{{}}], kafka: [{{}}]}}}}]}}]}}",
        "rules: only one kind of L7 rules an entry",
    ),
    ("lookahead", http("{path: '/(?!admin).*'}"), "http[0].path: '/(?!admin).*' is refused by RE2"),
    ("backreference", http(r"{path: '(a)\1'}"), "is refused by RE2: invalid escape sequence"),
    ("possessive", http("{method: 'G++'}"), "is refused by RE2: bad repetition operator"),
    ("bad host", http("{host: '('}"), "http[0].host: '(' is refused by RE2"),
    ("header without blank", http("{headers: ['X-Token:abc']}"), "headers[0]: 'X-Token:abc' is no header rule"),
    ("empty header", http("{headers: ['']}"), "headers[0]: '' is no header rule"),
    ("header match without name", http("{headerMatches: [{value: x}]}"), "headerMatches[0]: name is missing"),
    (
        "header match action",
        http("{headerMatches: [{name: x, mismatch: DROP}]}"),
        "mismatch: unknown action 'DROP'; one of LOG, ADD, DELETE, REPLACE",
    ),
    (
        "header match secret",
        http("{headerMatches: [{name: x, secret: {name: s}}]}"),
        "secret: secret is not supported yet",
    ),
    ("unknown http field", http("{url: /x}"), "http[0].url: unknown field"),
    ("null http rule", http("null"), "http[0]: must be a mapping"),
    ("role", kafka("{role: admin}"), "kafka[0].role: unknown role 'admin'; produce or consume"),
    ("API key", kafka("{apiKey: listoffsets}"), "kafka[0].apiKey: unknown API key 'listoffsets'"),
    (
        "version as number",
        kafka("{apiVersion: 3}"),
        'kafka[0].apiVersion: must be a string, not a number (3); quote it: "3"',
    ),
    ("version no number", kafka("{apiVersion: v3}"), "kafka[0].apiVersion: must be a number in quotes"),
    ("topic with wildcard", kafka("{topic: 'a*'}"), "kafka[0].topic: 'a*' is no topic name"),
    ("topic too long", kafka(f"{{topic: {'a' * 256}}}"), "is no topic name"),
    (
        "ICMP type",
        f"{{{E}ingress: [{{icmps: [{{fields: [{{type: 256}}]}}]}}]}}",
        "fields[0].type: must be a number from 0 to 255, not 256",
    ),
    (
        "ICMP name",
        f"{{{E}ingress: [{{icmps: [{{fields: [{{type: Ping}}]}}]}}]}}",
        "fields[0].type: unknown type 'Ping' of family IPv4",
    ),
    (
        "ICMP name of the other family",
        f"{{{E}ingress: [{{icmps: [{{fields: [{{type: PacketTooBig}}]}}]}}]}}",
        "unknown type 'PacketTooBig' of family IPv4",
    ),
    (
        "ICMP family",
        f"{{{E}ingress: [{{icmps: [{{fields: [{{family: IPv5, type: 8}}]}}]}}]}}",
        "fields[0].family: unknown family 'IPv5'",
    ),
    (
        "ICMP without type",
        f"{{{E}ingress: [{{icmps: [{{fields: [{{family: IPv4}}]}}]}}]}}",
        "fields[0]: type is missing",
    ),
    (
        "too many types",
        f"{{{E}ingress: [{{icmps: [{{fields: [{', '.join([ONE_TYPE] * 41)}]}}]}}]}}",
        "icmps[0].fields: more than 40 types",
    ),
    (
        "operator",
        "{endpointSelector: {matchExpressions: [{key: a, operator: Equals, values: [b]}]}, ingress: [{}]}",
        "operator: unknown operator 'Equals'; one of In, NotIn, Exists, DoesNotExist",
    ),
    (
        "In without values",
        "{endpointSelector: {matchExpressions: [{key: a, operator: In, values: []}]}, ingress: [{}]}",
        "operator In needs values",
    ),
    (
        "Exists with values",
        "{endpointSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}, ingress: [{}]}",
        "values: operator Exists takes no values",
    ),
    (
        "expression without key",
        "{endpointSelector: {matchExpressions: [{operator: Exists}]}, ingress: [{}]}",
        "matchExpressions[0]: key is missing",
    ),
    (
        "label as number",
        "{endpointSelector: {matchLabels: {a: 1}}, ingress: [{}]}",
        'spec.endpointSelector.matchLabels.a: must be a string, not a number (1); quote it: "1"',
    ),
    ("label key", "{endpointSelector: {matchLabels: {'k8s:': a}}, ingress: [{}]}", "must be a label key"),
]


@pytest.mark.parametrize(("spec", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals_name_file_line_field_and_remedy(tmp_path, spec, message):
    (tmp_path / "p.yaml").write_text(cnp("bad", spec))
    with pytest.raises(PolicyError) as caught:
        load_policies([tmp_path / "p.yaml"])
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/p.yaml:5: ")
    assert message in text
    assert "\n" not in text


DOCUMENTS = [
    ("kind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec: {}\n", ":1: apiVersion is missing"),
    (
        "apiVersion: cilium.io/v1\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec: {}\n",
        ":1: apiVersion: CiliumNetworkPolicy of version 'cilium.io/v1' is not read",
    ),
    ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nspec: {}\n", ":1: metadata is missing"),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {namespace: a}\nspec: {}\n",
        ":3: metadata: name is missing",
    ),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, label: {}}\nspec: {}\n",
        ":3: metadata.label: unknown field; did you mean labels?",
    ),
    ("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\n", ":1: spec is missing"),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec:\nspecs: []\n",
        ":1: spec is missing",
    ),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspecs: [{endpointSelector: {}}]\n",
        ":4: specs[0]: a rule needs at least one of",
    ),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspecification: {}\n",
        ":4: specification: unknown field",
    ),
    (
        'apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: "a\\eb"}\nspec: {}\n',
        ":3: metadata.namespace: must be a name, not 'a\\x1bb'",
    ),
    (
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p, namespace: a}\nspec: {}\n",
        ":3: metadata.namespace: a CiliumClusterwideNetworkPolicy has no namespace",
    ),
]


@pytest.mark.parametrize(("text", "message"), DOCUMENTS)
def test_refused_documents(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policies([tmp_path / "p.yaml"])
    assert str(caught.value).startswith(f"{tmp_path}/p.yaml{message}")


@pytest.mark.parametrize("name", ["''", r'"a\nb"', r'"\e[31m"'])
def test_a_name_is_fit_to_be_shown(tmp_path, name):
    (tmp_path / "p.yaml").write_text(cnp(name, f"{{{E}ingress: [{{}}]}}"))
    with pytest.raises(PolicyError, match=r":4: metadata\.name: must be a name, not '") as caught:
        load_policies([tmp_path / "p.yaml"])
    assert str(caught.value).isprintable()


def test_what_a_flow_tells_of_a_policy(tmp_path):
    (tmp_path / "p.yaml").write_text(cnp("one", f"{{{E}ingress: [{{}}]}}") + ccnp("two", f"{{{E}ingress: [{{}}]}}"))
    one, two = load_policies([tmp_path / "p.yaml"]).policies
    assert (one.ref.name, one.ref.namespace, one.ref.kind) == ("one", "bank", "CiliumNetworkPolicy")
    assert one.ref.labels == (
        "k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy",
        "k8s:io.cilium.k8s.policy.name=one",
        "k8s:io.cilium.k8s.policy.namespace=bank",
    )
    assert (two.ref.name, two.ref.namespace, two.ref.kind) == ("two", "", "CiliumClusterwideNetworkPolicy")
    assert two.ref.labels[-1] == "k8s:io.cilium.k8s.policy.name=two"


def test_parts_of_a_rule(tmp_path):
    spec = (
        f"{{{E}description: d, labels: [], log: {{value: x}}, ingress: [{{fromCIDRSet: [{{cidr: 10.1.2.3/8, except: [10.4.0.0/16]}}],"
        " toPorts: [{ports: [{port: '1', endPort: 3, protocol: udp}, {port: Web-1}]}]}, {icmps: [{fields: [{type: '13'}, {family: IPv6, type: EchoReply}]}]}]}"
    )
    (tmp_path / "p.yaml").write_text(cnp("p", spec))
    first, second = load_policies([tmp_path / "p.yaml"]).policies[0].rules[0].ingress
    ten = 0xFFFF0A000000
    assert first.peers.cidrs == (CidrRule(Cidr(4, ten, 104), (Cidr(4, ten + 0x40000, 112),)),)
    assert first.ports[0].ports == (
        Ports(1, 3, frozenset((17,))),
        Ports(0, 0, frozenset((6, 17, 132)), "web-1"),
    )
    assert second.icmps == (IcmpType(4, 13), IcmpType(6, 129))


def test_a_foreign_namespace_in_the_selector_is_warned_about(tmp_path):
    selector = "{endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': mail}}, ingress: [{}]}"
    (tmp_path / "p.yaml").write_text(cnp("p", selector))
    assert load_policies([tmp_path / "p.yaml"]).warnings == (
        f"{tmp_path}/p.yaml:5: policy bank/p: the namespace in endpointSelector is replaced by the policy's own, bank; "
        "it selects pods of no other",
    )
    (tmp_path / "p.yaml").write_text(cnp("p", selector.replace("mail", "bank")))
    assert load_policies([tmp_path / "p.yaml"]).warnings == ()
