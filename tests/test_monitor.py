"""Monitor texts against the enums of flow.proto, which name the same numbers."""

from observer import monitor
from observer.api import flow_pb2


def test_every_drop_reason_has_a_text():
    numbers = {value.number for value in flow_pb2.DropReason.DESCRIPTOR.values if value.number}
    assert {number for number in monitor.DROP_REASONS if number >= 130} == numbers
    assert monitor.DROP_REASONS[flow_pb2.POLICY_DENIED] == "Policy denied"
    assert monitor.DROP_REASONS[flow_pb2.POLICY_DENY] == "Policy denied by denylist"


def test_observation_points_are_the_enums_names():
    """Except to-endpoint, which is 0 as a sub type and 101 in the enum."""
    names = {value.number: value.name for value in flow_pb2.TraceObservationPoint.DESCRIPTOR.values}
    names[0] = names.pop(101)
    assert {number: name.lower().replace("_", "-") for number, name in names.items()} == monitor.OBSERVATION_POINTS
