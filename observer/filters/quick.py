"""The three quick filters of the TUI (pod, verdict, port) as the request that a server understands.

A word for the user goes in, a GetFlowsRequest with whitelist goes out, so that the server does the filtering.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from observer.api import flow_pb2, observer_pb2
from observer.errors import FilterError
from observer.filters.flowfilter import compile_filters


@dataclass(frozen=True, slots=True)
class QuickFilter:
    """Each empty text means any. A pod is namespace/prefix; without a slash, a prefix in any namespace."""

    pod: str = ""
    verdict: str = ""
    port: str = ""

    def __str__(self) -> str:
        parts = [f"{field.name} {value}" for field in fields(self) if (value := getattr(self, field.name))]
        return ", ".join(parts)

    def request(self, number: int) -> observer_pb2.GetFlowsRequest:
        """Ask for the last `number` flows that match, then for new ones; FilterError when a value is refused."""
        whitelist = self._filters()
        compile_filters(whitelist)
        return observer_pb2.GetFlowsRequest(number=number, follow=True, whitelist=whitelist)

    def _filters(self) -> list[flow_pb2.FlowFilter]:
        """Pod on either side and port on either side: up to four filters, of which one must match."""
        verdicts = flow_pb2.Verdict.DESCRIPTOR.values_by_name
        if self.verdict and self.verdict not in verdicts:
            raise FilterError(f"unknown verdict {self.verdict!r}; one of {', '.join(list(verdicts)[1:])}")
        pod = self.pod if "/" in self.pod or not self.pod else f"/{self.pod}"
        filters = []
        for pod_field in ("source_pod", "destination_pod") if pod else ("",):
            for port_field in ("source_port", "destination_port") if self.port else ("",):
                one = flow_pb2.FlowFilter(verdict=[self.verdict] if self.verdict else [])
                if pod_field:
                    getattr(one, pod_field).append(pod)
                if port_field:
                    getattr(one, port_field).append(self.port)
                filters.append(one)
        return [] if filters == [flow_pb2.FlowFilter()] else filters
