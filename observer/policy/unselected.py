"""Warnings about policies that select no endpoint: the commonest mistake, and a silent one.

Parsed policies and the endpoint table enter; one line a policy leaves, that says why nothing is selected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from observer.policy.matching import Matcher
from observer.policy.model import Policy, Rule
from observer.policy.selector import Selector


def unselected_warnings(
    policies: Sequence[Policy], matcher: Matcher, namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """A line for each rule that selects no endpoint of the table."""
    for policy in policies:
        for index, rule in enumerate(policy.rules):
            if any(matcher.selects(rule.subject, number) for number, _, _ in matcher.pods()):
                continue
            part = f" (its rule {index + 1})" if len(policy.rules) > 1 else ""
            why = _why(policy, rule, matcher, namespaces)
            yield f"{rule.place}: policy {policy.shown}{part} selects no endpoint: {why}"


def _why(policy: Policy, rule: Rule, matcher: Matcher, namespaces: Mapping[str, Mapping[str, str]]) -> str:
    pods = [(endpoint, labels) for _, endpoint, labels in matcher.pods()]
    if not pods:
        return "no pod is known; name them in an identities file"
    own = policy.ref.namespace
    if own:
        elsewhere = sorted({endpoint.namespace for endpoint, labels in pods if rule.own.matches(labels)})
        scope = f"it selects only pods of namespace {own}"
        if elsewhere and rule.own.requirements:
            word = "namespace" if len(elsewhere) == 1 else "namespaces"
            return f"{scope}; {rule.own} exists in {word} {', '.join(elsewhere)}"
        if not any(endpoint.namespace == own for endpoint, _ in pods):
            return f"{scope}, and no pod of it is known" + ("" if own in namespaces else "; is the name right?")
    for requirement in rule.own.requirements:
        if not any(Selector((requirement,)).matches(labels) for _, labels in pods):
            return f"no pod has {requirement}"
    return f"no pod has all of {rule.own}" + (f" in namespace {own}" if own else "")
