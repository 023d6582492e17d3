"""Policy documents from files and folders of YAML, several a file.

Paths enter, parsed policies leave. Documents of other things (ConfigMap, Deployment) are passed over with a warning;
a policy of a kind that is not read is refused, because verdicts without it would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from observer.errors import PolicyError
from observer.policy.model import Documents, Policy
from observer.policy.parse import KINDS, parse_policy
from observer.yamlfile import Value, read_documents

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_POLICY_GROUPS: Final = ("cilium.io", "networking.k8s.io", "policy.networking.k8s.io")


def load_policies(paths: Sequence[str | Path]) -> Documents:
    """Read policy files and folders; PolicyError `file:line: field: what; remedy`."""
    policies: list[Policy] = []
    warnings: list[str] = []
    seen: dict[tuple[str, str, str], Policy] = {}
    for path in _files(paths):
        found = 0
        for document in _documents(path):
            policy = _policy(document, warnings)
            if policy is None:
                continue
            found += 1
            first = seen.setdefault((policy.ref.kind, policy.ref.namespace, policy.ref.name), policy)
            if first is not policy:
                raise document.error(
                    f"policy {policy.shown} stands at {first.place} already; rename or take out one of them"
                )
            policies.append(policy)
        if not found:
            warnings.append(f"{path}: holds no policy")
    return Documents(tuple(policies), tuple(warnings))


def _files(paths: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        try:
            inside = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}; check the path") from None
        if not inside:
            raise PolicyError(
                f"{path}: holds no file that ends in {', '.join(_SUFFIXES)}; name a file or another folder"
            )
        yield from inside


def _documents(path: Path) -> Iterator[Value]:
    """The documents of a file, those inside a List (as kubectl prints several) one by one."""
    for document in read_documents(path, PolicyError):
        kind = document.mapping().get("kind")
        items = document.mapping().get("items")
        if kind is not None and items is not None and kind.plain().endswith("List"):
            yield from items.items()
        else:
            yield document


def _policy(document: Value, warnings: list[str]) -> Policy | None:
    fields = document.mapping()
    if "kind" not in fields:
        raise document.error(f"kind is missing; write kind: {KINDS[0]}")
    kind = fields["kind"].string()
    if kind in KINDS:
        policy, more = parse_policy(document)
        warnings += more
        return policy
    version = fields["apiVersion"].plain() if "apiVersion" in fields else ""
    if version.partition("/")[0] in _POLICY_GROUPS:
        raise fields["kind"].error(f"{kind} is not supported yet; take the document out. Read are {', '.join(KINDS)}")
    if not version:
        raise fields["kind"].error(f"unknown kind {fields['kind'].shown} without apiVersion; one of {', '.join(KINDS)}")
    warnings.append(f"{fields['kind'].place}: a {kind} is no policy; passed over")
    return None
