import pytest

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.service.mask import FieldMask

FLOW = flow_pb2.Flow(
    verdict=flow_pb2.DROPPED,
    Summary="s",
    source=flow_pb2.Endpoint(identity=1, pod_name="a", labels=["x", "y"]),
    IP=flow_pb2.IP(source="1.1.1.1", destination="2.2.2.2"),
    l4=flow_pb2.Layer4(UDP=flow_pb2.UDP(source_port=1, destination_port=53)),
    is_reply={"value": False},
    source_names=["n"],
)


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (["verdict"], flow_pb2.Flow(verdict=flow_pb2.DROPPED)),
        (["Summary", "IP"], flow_pb2.Flow(Summary="s", IP=FLOW.IP)),
        (["source.pod_name"], flow_pb2.Flow(source=flow_pb2.Endpoint(pod_name="a"))),
        (["source.labels", "source.identity"], flow_pb2.Flow(source={"identity": 1, "labels": ["x", "y"]})),
        # A message on the way to a field is there even where the flow has none; a whole message is not.
        (["destination.pod_name"], flow_pb2.Flow(destination=flow_pb2.Endpoint())),
        (["destination"], flow_pb2.Flow()),
        (["is_reply"], flow_pb2.Flow(is_reply={"value": False})),
        (["source_names"], flow_pb2.Flow(source_names=["n"])),
        (["l4.TCP.source_port", "l4.UDP.source_port"], flow_pb2.Flow(l4={"UDP": {"source_port": 1}})),
    ],
)
def test_only_what_the_mask_names(paths, wanted):
    assert FieldMask(paths).apply(FLOW) == wanted


@pytest.mark.parametrize(
    "path", ["nothing", "source.nothing", "verdict.x", "source.labels.x", "sourcePod", "", "a..b", "."]
)
def test_paths_that_do_not_exist(path):
    with pytest.raises(FilterError, match="invalid fieldmask"):
        FieldMask([path])
