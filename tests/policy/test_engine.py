# ruff: noqa: E501 - a policy is one line of the table

import pytest

from observer.policy.engine import MEMO_LIMIT
from observer.record import Direction, PolicyMatch
from tests.policy.town import Http, Kafka, Town, ccnp, cnp

VAULT = "endpointSelector: {matchLabels: {role: vault}}"
TELLER = "endpointSelector: {matchLabels: {role: teller}}"
FROM_TELLER = "fromEndpoints: [{matchLabels: {role: teller}}]"


def tcp(port):
    return f'ports: [{{port: "{port}", protocol: TCP}}]'


OPEN = "pass >"
SHUT = "refuse INGRESS >"
SHUT_OUT = "refuse EGRESS >"

# title, policies, [(source, destination, what, request, told)]
CASES = [
    (
        "nobody is selected by no policy",
        "",
        [("bank/teller", "bank/vault", "TCP/1", None, OPEN), ("8.8.8.8", "9.9.9.9", "UDP/53", None, OPEN)],
    ),
    (
        "a policy selects pods of its own namespace only",
        cnp("p", f"{{{TELLER}, ingress: [{{}}]}}"),
        [("bank/guard", "bank/teller", "TCP/80", None, SHUT), ("bank/guard", "mail/clerk", "TCP/80", None, OPEN)],
    ),
    (
        "no namespace is namespace default",
        cnp("p", "{endpointSelector: {}, ingress: [{}]}", namespace=""),
        [("bank/guard", "default/stray", "TCP/80", None, SHUT), ("bank/guard", "bank/vault", "TCP/80", None, OPEN)],
    ),
    (
        "a namespace in endpointSelector is replaced",
        cnp(
            "p",
            "{endpointSelector: {matchLabels: {role: teller, 'k8s:io.kubernetes.pod.namespace': mail}}, ingress: [{}]}",
        ),
        [("bank/guard", "bank/teller", "TCP/80", None, SHUT), ("bank/guard", "mail/clerk", "TCP/80", None, OPEN)],
    ),
    (
        "clusterwide selects pods of all namespaces, pods only, and knows namespaces",
        ccnp("all", f"{{{TELLER}, ingress: [{{}}]}}")
        + ccnp("m", "{endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': mail}}, egress: [{}]}"),
        [
            ("bank/guard", "bank/teller", "TCP/80", None, SHUT),
            ("bank/guard", "mail/clerk", "TCP/80", None, SHUT),
            ("bank/guard", "bank/vault", "TCP/80", None, OPEN),
            ("mail/postman", "bank/vault", "TCP/80", None, SHUT_OUT),
            ("192.168.77.1", "8.8.8.8", "TCP/80", None, OPEN),
        ],
    ),
    (
        "an empty peer selector of a clusterwide policy is any pod, never world or host",
        ccnp("any", f"{{{VAULT}, ingress: [{{fromEndpoints: [{{}}]}}]}}"),
        [
            ("mail/postman", "bank/vault", "TCP/80", None, "pass >any"),
            ("bank/guard", "bank/vault", "TCP/80", None, "pass >any"),
            ("8.8.8.8", "bank/vault", "TCP/80", None, SHUT),
            ("192.168.77.2", "bank/vault", "TCP/80", None, SHUT),
        ],
    ),
    (
        "peers without a namespace are of the policy's; with one, in either form, it alone decides",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{{FROM_TELLER}, toPorts: [{{{tcp(1)}}}]}}, "
            "{fromEndpoints: [{matchLabels: {role: teller, io.kubernetes.pod.namespace: mail}}], toPorts: [{"
            + tcp(2)
            + "}]}, "
            "{fromEndpoints: [{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [mail, infra]}]}],"
            " toPorts: [{" + tcp(3) + "}]}, "
            "{fromEndpoints: [{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: Exists}]}],"
            " toPorts: [{" + tcp(4) + "}]}, "
            "{fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.floor': second}}], toPorts: [{"
            + tcp(5)
            + "}]}, "
            "{fromEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: NotIn, values: [mail]}]}],"
            " toPorts: [{" + tcp(6) + "}]}]}",
        ),
        [
            ("bank/teller", "bank/vault", "TCP/1", None, "pass >p"),
            ("mail/clerk", "bank/vault", "TCP/1", None, SHUT),
            ("mail/clerk", "bank/vault", "TCP/2", None, "pass >p"),
            ("bank/teller", "bank/vault", "TCP/2", None, SHUT),
            ("infra/broker", "bank/vault", "TCP/3", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/3", None, SHUT),
            ("bank/guard", "bank/vault", "TCP/4", None, "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/4", None, SHUT),
            ("mail/postman", "bank/vault", "TCP/5", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/5", None, SHUT),
            ("mail/postman", "bank/vault", "TCP/6", None, SHUT),
            ("8.8.8.8", "bank/vault", "TCP/6", None, "pass >p"),  # a missing label is not in the list
        ],
    ),
    (
        "key prefixes bind the source",
        cnp(
            "p",
            "{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {'k8s:role': watcher}}], toPorts: [{"
            + tcp(1)
            + "}]},"
            "{fromEndpoints: [{matchLabels: {'container:role': watcher}}], toPorts: [{" + tcp(2) + "}]},"
            "{fromEndpoints: [{matchLabels: {role: watcher}}], toPorts: [{" + tcp(3) + "}]},"
            "{fromEndpoints: [{matchLabels: {'any:role': watcher}}], toPorts: [{" + tcp(4) + "}]}]}",
            namespace="infra",
        ),
        [
            ("infra/watcher", "infra/broker", "TCP/1", None, SHUT),
            ("infra/watcher", "infra/broker", "TCP/2", None, "pass >p"),
            ("infra/watcher", "infra/broker", "TCP/3", None, "pass >p"),
            ("infra/watcher", "infra/broker", "TCP/4", None, "pass >p"),
        ],
    ),
    (
        "reserved keys get no namespace; every expression holds",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{fromEndpoints: [{{matchLabels: {{'reserved:world': ''}}}}], toPorts: [{{{tcp(1)}}}]}},"
            "{fromEndpoints: [{matchLabels: {'reserved:remote-node': ''}}], toPorts: [{" + tcp(2) + "}]},"
            "{fromEndpoints: [{matchExpressions: [{key: role, operator: Exists}, {key: shift, operator: NotIn, values: [day]},"
            " {key: gone, operator: DoesNotExist}]}], toPorts: [{" + tcp(3) + "}]}]}",
        ),
        [
            ("8.8.8.8", "bank/vault", "TCP/1", None, "pass >p"),
            ("2001:db8::1", "bank/vault", "TCP/1", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/1", None, SHUT),
            ("192.168.77.2", "bank/vault", "TCP/2", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/3", None, "pass >p"),
            ("bank/teller", "bank/vault", "TCP/3", None, SHUT),
            ("mail/postman", "bank/vault", "TCP/3", None, SHUT),
        ],
    ),
    (
        "spec and specs hold rules side by side",
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: bank}\n"
        f"spec: {{{VAULT}, ingress: [{{}}]}}\nspecs:\n- {{{TELLER}, ingress: [{{}}]}}\n- {{{VAULT}, ingress: [{{{FROM_TELLER}}}]}}\n",
        [
            ("bank/teller", "bank/vault", "TCP/1", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/1", None, SHUT),
            ("bank/guard", "bank/teller", "TCP/1", None, SHUT),
        ],
    ),
    (
        "empty lists and nulls are no section; one empty rule denies by default, one way",
        cnp("p", f"{{{VAULT}, ingress: [], egress: [{{}}]}}")
        + cnp("q", f"{{{TELLER}, ingress: [{{}}], egress: null}}"),
        [
            ("bank/guard", "bank/vault", "TCP/1", None, OPEN),
            ("bank/vault", "bank/guard", "TCP/1", None, SHUT_OUT),
            ("bank/guard", "bank/teller", "TCP/1", None, SHUT),
            ("bank/teller", "bank/guard", "TCP/1", None, OPEN),
        ],
    ),
    (
        "enableDefaultDeny false opens what no rule names; denies and L7 rules still bind",
        cnp(
            "soft",
            f"{{{VAULT}, enableDefaultDeny: {{ingress: false}}, ingressDeny: [{{fromEndpoints: [{{matchLabels: {{role: guard}}}}]}}],"
            f" ingress: [{{{FROM_TELLER}, toPorts: [{{{tcp(80)}, rules: {{http: [{{method: GET}}]}}}}]}}]}}",
        ),
        [
            ("mail/postman", "bank/vault", "TCP/80", Http("PUT"), OPEN),
            ("bank/guard", "bank/vault", "TCP/80", None, "refuse INGRESS >soft"),
            ("bank/teller", "bank/vault", "TCP/81", None, OPEN),
            ("bank/teller", "bank/vault", "TCP/80", Http("GET"), "pass >soft"),
            ("bank/teller", "bank/vault", "TCP/80", Http("PUT"), "refuse INGRESS >soft"),
        ],
    ),
    (
        "any other rule may switch default deny on; true without a section does not",
        cnp("soft", f"{{{VAULT}, enableDefaultDeny: {{ingress: false}}, ingress: [{{{FROM_TELLER}}}]}}")
        + cnp("hard", f"{{{VAULT}, ingress: [{{}}]}}")
        + cnp("odd", f"{{{TELLER}, enableDefaultDeny: {{ingress: true}}, egress: [{{toEntities: [all]}}]}}"),
        [
            ("bank/guard", "bank/vault", "TCP/1", None, SHUT),
            ("bank/teller", "bank/vault", "TCP/1", None, "pass odd>soft"),
            ("bank/guard", "bank/teller", "TCP/1", None, OPEN),
        ],
    ),
    (
        "no peers field is any peer; an empty one is nobody",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(1)}}}]}}, {{fromEndpoints: [], toPorts: [{{{tcp(2)}}}]}},"
            f" {{fromEntities: [], toPorts: [{{{tcp(2)}}}]}}, {{fromCIDR: [], toPorts: [{{{tcp(2)}}}]}}]}}",
        ),
        [
            ("8.8.8.8", "bank/vault", "TCP/1", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/1", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/2", None, SHUT),
            ("8.8.8.8", "bank/vault", "TCP/2", None, SHUT),
        ],
    ),
    (
        "CIDR rules mean addresses of no endpoint and no node; except narrows its own entry",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{fromCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}}, {{cidr: 10.9.9.0/24}}]}}, "
            "{fromCIDR: [198.51.100.7, 192.168.0.0/16, '2001:db8::/32']}]}",
        ),
        [
            ("10.1.2.3", "bank/vault", "TCP/1", None, "pass >p"),
            ("10.9.1.1", "bank/vault", "TCP/1", None, SHUT),
            ("10.9.9.1", "bank/vault", "TCP/1", None, "pass >p"),
            ("bank/guard", "bank/vault", "TCP/1", None, SHUT),
            ("192.168.77.2", "bank/vault", "TCP/1", None, SHUT),
            ("192.168.77.9", "bank/vault", "TCP/1", None, "pass >p"),
            ("198.51.100.7", "bank/vault", "TCP/1", None, "pass >p"),
            ("198.51.100.8", "bank/vault", "TCP/1", None, SHUT),
            ("2001:db8:1::1", "bank/vault", "TCP/1", None, "pass >p"),
            ("2001:db9::1", "bank/vault", "TCP/1", None, SHUT),
        ],
    ),
    (
        "a prefix of one family holds no address of the other",
        cnp(
            "p",
            f"{{{TELLER}, egress: [{{toCIDR: ['::/0'], toPorts: [{{{tcp(6)}}}]}}, {{toCIDR: [0.0.0.0/0], toPorts: [{{{tcp(4)}}}]}}]}}",
        ),
        [
            ("bank/teller", "2001:db8::1", "TCP/6", None, "pass p>"),
            ("bank/teller", "8.8.8.8", "TCP/6", None, SHUT_OUT),
            ("bank/teller", "8.8.8.8", "TCP/4", None, "pass p>"),
            ("bank/teller", "2001:db8::1", "TCP/4", None, SHUT_OUT),
            ("bank/teller", "10.96.1.1", "TCP/4", None, "pass p>"),  # a service is no endpoint
        ],
    ),
    (
        "entities",
        cnp(
            "p",
            f"{{{TELLER}, egress: ["
            + ", ".join(
                f"{{toEntities: [{entity}], toPorts: [{{{tcp(port)}}}]}}"
                for port, entity in enumerate(
                    ("world", "world-ipv4", "cluster", "all", "none", "host", "remote-node", "kube-apiserver"), 1
                )
            )
            + "]}",
        ),
        [
            ("bank/teller", "8.8.8.8", "TCP/1", None, "pass p>"),
            ("bank/teller", "2001:db8::1", "TCP/1", None, "pass p>"),
            ("bank/teller", "172.16.0.9", "TCP/1", None, "pass p>"),
            ("bank/teller", "bank/vault", "TCP/1", None, SHUT_OUT),
            ("bank/teller", "192.168.77.2", "TCP/1", None, SHUT_OUT),
            ("bank/teller", "8.8.8.8", "TCP/2", None, "pass p>"),
            ("bank/teller", "2001:db8::1", "TCP/2", None, SHUT_OUT),
            ("bank/teller", "mail/postman", "TCP/3", None, "pass p>"),
            ("bank/teller", "192.168.77.1", "TCP/3", None, "pass p>"),
            ("bank/teller", "192.168.77.2", "TCP/3", None, "pass p>"),
            ("bank/teller", "8.8.8.8", "TCP/3", None, SHUT_OUT),
            ("bank/teller", "8.8.8.8", "TCP/4", None, "pass p>"),
            ("bank/teller", "192.168.77.2", "TCP/4", None, "pass p>"),
            ("bank/teller", "bank/vault", "TCP/5", None, SHUT_OUT),
            ("bank/teller", "8.8.8.8", "TCP/5", None, SHUT_OUT),
            ("bank/teller", "192.168.77.1", "TCP/6", None, "pass p>"),
            ("bank/teller", "192.168.77.2", "TCP/6", None, SHUT_OUT),
            ("bank/teller", "192.168.77.2", "TCP/7", None, "pass p>"),
            ("bank/teller", "192.168.77.3", "TCP/8", None, "pass p>"),
        ],
    ),
    (
        "ingress from the local host passes, L7 rules and denies included",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{method: GET}}]}}}}]}}], ingressDeny: [{{fromEntities: [host]}}]}}",
        ),
        [
            ("192.168.77.1", "bank/vault", "TCP/80", Http("PUT"), OPEN),
            ("127.0.0.1", "bank/vault", "TCP/22", None, OPEN),
            ("192.168.77.2", "bank/vault", "TCP/80", Http("PUT"), "refuse INGRESS >p"),
            ("192.168.77.2", "bank/vault", "TCP/22", None, SHUT),
        ],
    ),
    (
        "ports: 0 is every port, endPort is included, no protocol is ANY, names resolve at the destination",
        cnp(
            "p",
            f"{{{VAULT}, ingress: ["
            "{fromEndpoints: [{matchLabels: {role: teller}}], toPorts: [{ports: [{port: '0', protocol: UDP}, {port: '20', endPort: 22}]},"
            " {ports: [{port: LEDGER, protocol: TCP}, {port: nobody}]}]},"
            "{fromEndpoints: [{matchLabels: {role: guard}}], toPorts: [{ports: [{port: '0'}]}]}]}",
        ),
        [
            ("bank/teller", "bank/vault", "UDP/9", None, "pass >p"),
            ("bank/teller", "bank/vault", "TCP/9", None, SHUT),
            ("bank/teller", "bank/vault", "TCP/22", None, "pass >p"),
            ("bank/teller", "bank/vault", "SCTP/20", None, "pass >p"),
            ("bank/teller", "bank/vault", "TCP/23", None, SHUT),
            ("bank/teller", "bank/vault", "TCP/0", None, SHUT),  # not the number of a port that has a name
            ("bank/teller", "bank/vault", "TCP/7070", None, "pass >p"),
            ("bank/teller", "bank/vault", "TCP/7071", None, SHUT),
            ("bank/guard", "bank/vault", "TCP/65535", None, "pass >p"),
            ("bank/guard", "bank/vault", "SCTP/1", None, "pass >p"),
            ("bank/guard", "bank/vault", "ICMP/8", None, SHUT),
            ("bank/guard", "bank/vault", "IGMP/0", None, SHUT),
        ],
    ),
    (
        "an entry without ports allows nothing",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{{FROM_TELLER}, toPorts: [{{}}]}}, {{{FROM_TELLER}, toPorts: [{{ports: []}}]}}]}}",
        ),
        [("bank/teller", "bank/vault", "TCP/1", None, SHUT)],
    ),
    (
        "ICMP: L3 rules admit it, icmps its types of the family only",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{{FROM_TELLER}}}, {{icmps: [{{fields: [{{type: 8}}, {{family: IPv6, type: EchoRequest}}]}}]}}]}}",
        ),
        [
            ("bank/teller", "bank/vault", "ICMP/3", None, "pass >p"),
            ("bank/teller", "bank/vault", "IGMP/0", None, "pass >p"),
            ("bank/guard", "bank/vault", "ICMP/8", None, "pass >p"),
            ("bank/guard", "bank/vault", "ICMP/13", None, SHUT),
            ("bank/guard", "bank/vault", "ICMP/128", None, SHUT),
            ("bank/guard", "bank/vault", "ICMPV6/128", None, "pass >p"),
            ("bank/guard", "bank/vault", "ICMPV6/8", None, SHUT),
            ("bank/guard", "bank/vault", "TCP/8", None, SHUT),
        ],
    ),
    (
        "deny beats every allow, wherever it stands, on its ports only; alone it still denies by default",
        cnp("deny", f"{{{VAULT}, ingressDeny: [{{{FROM_TELLER}, toPorts: [{{ports: [{{port: '23'}}]}}]}}]}}")
        + cnp("allow", f"{{{VAULT}, ingress: [{{fromEndpoints: [{{}}]}}]}}")
        + cnp("only", "{endpointSelector: {matchLabels: {role: guard}}, egressDeny: [{toEntities: [world]}]}"),
        [
            ("bank/teller", "bank/vault", "TCP/23", None, "refuse INGRESS >deny"),
            ("bank/teller", "bank/vault", "TCP/24", None, "pass >allow"),
            ("bank/guard", "8.8.8.8", "TCP/1", None, "refuse EGRESS only>"),
            ("bank/guard", "bank/teller", "TCP/1", None, SHUT_OUT),
        ],
    ),
    (
        "an empty deny rule denies nobody by name",
        cnp("p", f"{{{VAULT}, ingressDeny: [{{}}]}}") + cnp("q", f"{{{VAULT}, ingress: [{{{FROM_TELLER}}}]}}"),
        [("bank/teller", "bank/vault", "TCP/1", None, "pass >q"), ("bank/guard", "bank/vault", "TCP/1", None, SHUT)],
    ),
    (
        "a deny beats L7 rules and icmps too",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{}}]}}}}]}}, {{icmps: [{{fields: [{{type: Echo}}]}}]}}],"
            " ingressDeny: [{fromCIDR: [203.0.113.0/24]}]}",
        ),
        [
            ("203.0.113.9", "bank/vault", "TCP/80", Http(), "refuse INGRESS >p"),
            ("203.0.113.9", "bank/vault", "ICMP/8", None, "refuse INGRESS >p"),
            ("203.0.114.9", "bank/vault", "TCP/80", Http(), "pass >p"),
            ("203.0.114.9", "bank/vault", "ICMP/8", None, "pass >p"),
        ],
    ),
    (
        "an allow at L3, at port 0 or at L4 makes L7 rules moot for its peers",
        cnp(
            "l7",
            f"{{{VAULT}, ingress: [{{fromEndpoints: [{{}}], toPorts: [{{{tcp(80)}, rules: {{http: [{{method: GET}}]}}}}]}}]}}",
        )
        + cnp("l3", f"{{{VAULT}, ingress: [{{{FROM_TELLER}}}]}}")
        + cnp(
            "zero",
            f"{{{VAULT}, ingress: [{{fromEndpoints: [{{matchLabels: {{shift: night}}}}], toPorts: [{{ports: [{{port: '0'}}]}}]}}]}}",
        ),
        [
            ("bank/teller", "bank/vault", "TCP/80", Http("PUT"), "pass >l3"),
            ("bank/guard", "bank/vault", "TCP/80", Http("PUT"), "pass >zero"),
            ("bank/vault", "bank/vault", "TCP/80", Http("PUT"), "refuse INGRESS >l7"),
            ("mail/clerk", "bank/vault", "TCP/80", Http(), SHUT),
        ],
    ),
    (
        "moot in one direction only",
        cnp("in", f"{{{VAULT}, ingress: [{{{FROM_TELLER}}}]}}")
        + cnp(
            "out",
            f"{{{TELLER}, egress: [{{toEndpoints: [{{}}], toPorts: [{{{tcp(80)}, rules: {{http: [{{path: /a}}]}}}}]}}]}}",
        ),
        [
            ("bank/teller", "bank/vault", "TCP/80", Http(path="/a"), "pass out>in"),
            ("bank/teller", "bank/vault", "TCP/80", Http(path="/b"), "refuse EGRESS out>"),
        ],
    ),
    (
        "L7 rules of both halves bind, egress first; refused at L4 is refused for every request",
        cnp("in", f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{path: '/(a|b)'}}]}}}}]}}]}}")
        + cnp(
            "out",
            f"{{{TELLER}, egress: [{{toEntities: [cluster], toPorts: [{{{tcp(80)}, rules: {{http: [{{method: GET}}]}}}}]}}]}}",
        ),
        [
            ("bank/teller", "bank/vault", "TCP/80", Http("GET", "/a"), "pass out>in"),
            ("bank/teller", "bank/vault", "TCP/80", Http("GET", "/c"), "refuse INGRESS out>in"),
            ("bank/teller", "bank/vault", "TCP/80", Http("PUT", "/a"), "refuse EGRESS out>"),
            ("bank/teller", "bank/vault", "TCP/80", Http("PUT", "/c"), "refuse EGRESS out>"),
            ("bank/teller", "bank/vault", "TCP/80", None, "pass out>in"),
            ("bank/teller", "bank/vault", "TCP/81", Http("GET", "/a"), SHUT_OUT),
            ("bank/guard", "bank/vault", "TCP/81", Http("GET", "/a"), SHUT),
        ],
    ),
    (
        "the policy whose rule lets the request pass is told, and the first of those that refuse it",
        cnp("reads", f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{method: GET}}]}}}}]}}]}}")
        + cnp("writes", f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{method: PUT}}]}}}}]}}]}}"),
        [
            ("bank/teller", "bank/vault", "TCP/80", Http("GET"), "pass >reads"),
            ("bank/teller", "bank/vault", "TCP/80", Http("PUT"), "pass >writes"),
            ("bank/teller", "bank/vault", "TCP/80", Http("DELETE"), "refuse INGRESS >reads"),
        ],
    ),
    (
        "HTTP: whole, case-sensitive, with query and port; RE2 classes and quoting; empty fields ask nothing",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: ["
            "{method: GET, path: '/x|/y'}, {path: '/[[:digit:]]+'}, {path: '/\\Qa.b\\E'}, {method: '', path: /empty, host: ''},"
            "{path: '/h.*', host: 'vault\\.test(:[0-9]+)?'}, {method: '(?i)patch', path: /p}]}}]}]}",
        ),
        [
            ("8.8.8.8", "bank/vault", "TCP/80", Http("GET", "/x"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("GET", "/y"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("GET", "/xy"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("GET", "/q/y"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("get", "/x"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("GET", "/X"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("GET", "/x?q"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/007"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/a.b"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/acb"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/empty", "x"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/h?a=b"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/h", "vault.test:80"), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", "/h", "Vault.test"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("ANY", b"/h\xff"), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http("PATCH", "/p"), "pass >p"),
        ],
    ),
    (
        "HTTP headers: presence, exact value, all of them, names in any case; mismatch actions never refuse",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: ["
            "{path: /here, headers: [X-Seal]}, {path: /exact, headers: ['X-Seal: red wax', 'x-hand left']},"
            "{path: /match, headerMatches: [{name: X-Seal, value: red}, {name: X-Hand}]},"
            "{path: /log, headerMatches: [{name: X-Seal, value: red, mismatch: LOG}]}]}}]}]}",
        ),
        [
            ("8.8.8.8", "bank/vault", "TCP/80", Http(path="/here", headers=(("x-seal", ""),)), "pass >p"),
            ("8.8.8.8", "bank/vault", "TCP/80", Http(path="/here"), "refuse INGRESS >p"),
            (
                "8.8.8.8",
                "bank/vault",
                "TCP/80",
                Http(path="/exact", headers=(("X-SEAL", "red wax"), ("X-Hand", "left"))),
                "pass >p",
            ),
            (
                "8.8.8.8",
                "bank/vault",
                "TCP/80",
                Http(path="/exact", headers=(("X-Seal", "red wax"),)),
                "refuse INGRESS >p",
            ),
            (
                "8.8.8.8",
                "bank/vault",
                "TCP/80",
                Http(path="/exact", headers=(("X-Seal", "Red wax"), ("X-Hand", "left"))),
                "refuse INGRESS >p",
            ),
            (
                "8.8.8.8",
                "bank/vault",
                "TCP/80",
                Http(path="/match", headers=(("X-Seal", "red"), ("X-Hand", "any"))),
                "pass >p",
            ),
            ("8.8.8.8", "bank/vault", "TCP/80", Http(path="/match", headers=(("X-Seal", "red"),)), "refuse INGRESS >p"),
            (
                "8.8.8.8",
                "bank/vault",
                "TCP/80",
                Http(path="/match", headers=(("X-Seal", "red"), ("X-Seal", "red"), ("X-Hand", ""))),
                "refuse INGRESS >p",
            ),
            ("8.8.8.8", "bank/vault", "TCP/80", Http(path="/log"), "pass >p"),
        ],
    ),
    (
        "http: [{}] is every request; an empty list or empty rules restrict nothing",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(1)}, rules: {{http: [{{}}]}}}}, {{{tcp(2)}, rules: {{http: []}}}}, {{{tcp(3)}, rules: {{}}}},"
            " {ports: [{port: '4'}], rules: {kafka: []}}, {ports: [{port: '5'}], rules: {dns: []}}]}]}",
        ),
        [("8.8.8.8", "bank/vault", f"TCP/{port}", Http("PUT", "/z"), "pass >p") for port in (1, 2, 3, 4, 5)]
        + [("8.8.8.8", "bank/vault", "UDP/4", None, "pass >p")],
    ),
    (
        "a request of another kind than the rules is refused",
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{}}]}}}}, {{{tcp(92)}, rules: {{kafka: [{{}}]}}}}]}}]}}",
        ),
        [
            ("8.8.8.8", "bank/vault", "TCP/80", Kafka(18), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/92", Http(), "refuse INGRESS >p"),
            ("8.8.8.8", "bank/vault", "TCP/92", Kafka("initproducerid"), "pass >p"),
        ],
    ),
    (
        "Kafka rules over documents add up, topic by topic",
        cnp(
            "one",
            "{endpointSelector: {}, ingress: [{toPorts: [{"
            + tcp(92)
            + ", rules: {kafka: [{role: Produce, topic: red}]}}]}]}",
            "infra",
        )
        + cnp(
            "two",
            "{endpointSelector: {}, ingress: [{toPorts: [{"
            + tcp(92)
            + ', rules: {kafka: [{apiKey: PRODUCE, topic: blue, apiVersion: "5"}]}}]}]}',
            "infra",
        ),
        [
            ("bank/teller", "infra/broker", "TCP/92", Kafka(0, ("red",)), "pass >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka(0, ("blue",)), "pass >two"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka(0, ("red", "blue")), "pass >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka(0, ("red", "blue"), 6), "refuse INGRESS >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka(0, ("Red",)), "refuse INGRESS >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka("metadata", None), "refuse INGRESS >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka("metadata", ("red",)), "pass >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka("apiversions"), "pass >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka("fetch", ("red",)), "refuse INGRESS >one"),
            ("bank/teller", "infra/broker", "TCP/92", Kafka("no such key"), "refuse INGRESS >one"),
            ("bank/teller", "infra/broker", "TCP/93", Kafka(0, ("red",)), SHUT),
        ],
    ),
]


@pytest.mark.parametrize(("policies", "asked"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_verdicts(tmp_path, policies, asked):
    town = Town(tmp_path, policies)
    assert [(*question, town.told(town.ask(*question))) for *question, _ in asked] == [tuple(line) for line in asked]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_documents_does_not_matter(tmp_path, order):
    documents = [
        cnp(
            "a",
            f"{{{VAULT}, ingress: [{{{FROM_TELLER}, toPorts: [{{{tcp(80)}, rules: {{http: [{{method: GET}}]}}}}]}}]}}",
        ),
        cnp("b", f"{{{VAULT}, ingressDeny: [{{fromEndpoints: [{{matchLabels: {{role: guard}}}}]}}]}}"),
        cnp("c", f"{{{VAULT}, ingress: [{{fromEndpoints: [{{}}], toPorts: [{{{tcp(81)}}}]}}]}}"),
    ][::order]
    town = Town(tmp_path, "".join(documents))
    assert town.told(town.ask("bank/teller", "bank/vault", "TCP/80", Http("PUT"))) == "refuse INGRESS >a"
    assert town.told(town.ask("bank/guard", "bank/vault", "TCP/81")) == "refuse INGRESS >b"
    assert town.told(town.ask("bank/teller", "bank/vault", "TCP/81")) == "pass >c"


MATCHES = [
    ("bank/teller", "bank/vault", "TCP/1", PolicyMatch.L3_ONLY),
    ("bank/guard", "bank/vault", "TCP/2", PolicyMatch.L3_L4),
    ("8.8.8.8", "bank/vault", "TCP/3", PolicyMatch.L4_ONLY),
    ("8.8.8.8", "bank/vault", "UDP/4", PolicyMatch.PROTO_ONLY),
    ("bank/guard", "bank/vault", "SCTP/4", PolicyMatch.L3_PROTO),
    ("bank/guard", "bank/vault", "TCP/3", PolicyMatch.L4_ONLY),
    ("8.8.8.8", "bank/vault", "TCP/9", PolicyMatch.NONE),  # default deny
    ("bank/vault", "bank/guard", "TCP/9", PolicyMatch.ALL),  # no policy there
    ("bank/guard", "8.8.8.8", "TCP/9", PolicyMatch.ALL),
    ("8.8.8.8", "9.9.9.9", "TCP/9", PolicyMatch.NONE),  # nothing that a policy could select
    ("192.168.77.1", "bank/vault", "TCP/9", PolicyMatch.L3_ONLY),
    ("mail/postman", "infra/broker", "TCP/9", PolicyMatch.ALL),  # entity all
    ("bank/teller", "infra/broker", "TCP/666", PolicyMatch.L3_L4),  # the deny
]


@pytest.mark.parametrize(("source", "destination", "what", "match"), MATCHES)
def test_match_types(tmp_path, source, destination, what, match):
    town = Town(
        tmp_path,
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{{FROM_TELLER}}}, {{fromEndpoints: [{{}}], toPorts: [{{{tcp(2)}}}]}}, {{toPorts: [{{{tcp(3)}}}]}},"
            " {toPorts: [{ports: [{port: '0', protocol: UDP}]}]},"
            " {fromEndpoints: [{matchLabels: {role: guard}}], toPorts: [{ports: [{port: '0', protocol: SCTP}]}]}]}",
        )
        + cnp(
            "q",
            "{endpointSelector: {}, ingress: [{fromEntities: [all]}], ingressDeny: [{fromEndpoints: "
            "[{matchLabels: {io.kubernetes.pod.namespace: bank}}], toPorts: [{ports: [{port: '666'}]}]}]}",
            "infra",
        ),
    )
    assert town.ask(source, destination, what).match is match


def test_http_asks_for_headers_only_where_a_rule_does(tmp_path):
    town = Town(
        tmp_path,
        cnp(
            "p",
            f"{{{VAULT}, ingress: [{{toPorts: [{{{tcp(80)}, rules: {{http: [{{path: /a}}, {{path: /b, headers: [X]}}]}}}}]}}]}}",
        ),
    )
    connection = town.ask("8.8.8.8", "bank/vault", "TCP/80")
    asked = []

    def headers():
        asked.append(1)
        return [("x", "")]

    assert town.engine.http(connection, b"GET", b"/a", b"", headers).allowed
    assert not asked
    assert town.engine.http(connection, b"GET", b"/b", b"", headers).allowed
    assert asked == [1]


def test_a_connection_is_judged_once_and_the_memo_is_bounded(tmp_path):
    town = Town(tmp_path, cnp("p", f"{{{VAULT}, ingress: [{{fromCIDR: [10.0.0.0/8]}}]}}"))
    assert town.ask("10.1.1.1", "bank/vault", "TCP/1") is town.ask("10.1.1.1", "bank/vault", "TCP/1")
    assert town.ask("11.1.1.1", "bank/vault", "TCP/1").direction is Direction.INGRESS
    engine = town.engine
    engine._decisions = dict.fromkeys(
        ((0, 0, 0, port, None, 0, b"") for port in range(MEMO_LIMIT)), town.ask("10.1.1.1", "bank/vault", "TCP/1")
    )
    assert town.ask("10.1.1.1", "bank/vault", "TCP/2").allowed
    assert len(engine._decisions) == 1


def test_endpoints_may_join_the_table_later(tmp_path):
    town = Town(tmp_path, cnp("p", "{endpointSelector: {matchLabels: {role: late}}, ingress: [{}]}"))
    from observer.identity.endpoints import Endpoint

    number = town.cache.table.intern(
        Endpoint(
            identity=999, namespace="bank", pod="late", labels=("k8s:io.kubernetes.pod.namespace=bank", "k8s:role=late")
        )
    )
    assert not town.engine.connection(0, number, bytes(16), bytes(16), 6, 80, None, 4).allowed


UNSELECTED = [
    ("quiet", "{}", "it selects only pods of namespace quiet, and no pod of it is known"),
    (
        "bank",
        "{matchLabels: {role: postman}}",
        "it selects only pods of namespace bank; role=postman exists in namespace mail",
    ),
    (
        "infra",
        "{matchLabels: {role: teller}}",
        "it selects only pods of namespace infra; role=teller exists in namespaces bank, mail",
    ),
    ("bank", "{matchLabels: {role: pilot}}", "no pod has role=pilot"),
    ("bank", "{matchLabels: {role: guard, shift: day}}", "no pod has all of role=guard,shift=day in namespace bank"),
    (
        "nowhere",
        "{matchLabels: {role: pilot}}",
        "it selects only pods of namespace nowhere, and no pod of it is known; is the name right?",
    ),
    ("quiet", "{matchLabels: {role: pilot}}", "it selects only pods of namespace quiet, and no pod of it is known"),
]


@pytest.mark.parametrize(("namespace", "selector", "why"), UNSELECTED)
def test_a_policy_that_selects_no_endpoint_is_told_with_the_reason(tmp_path, namespace, selector, why):
    town = Town(tmp_path, cnp("idle", f"{{endpointSelector: {selector}, ingress: [{{}}]}}", namespace))
    assert town.engine.warnings == [f"{tmp_path}/policy.yaml:5: policy {namespace}/idle selects no endpoint: {why}"]


def test_no_warning_where_something_is_selected(tmp_path):
    town = Town(tmp_path, cnp("p", f"{{{VAULT}, ingress: [{{}}]}}") + ccnp("q", "{endpointSelector: {}, egress: [{}]}"))
    assert town.engine.warnings == []
    assert town.documents.warnings == ()
