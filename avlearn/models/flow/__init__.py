"""Networks of optical flow: RAFT, FlowNetS and FlowNetC. ``create_flow_network(name, weights)`` makes one."""

from avlearn.models.flow.networks import FLOW_NETWORKS, FlowNetwork, create_flow_network

__all__ = ["FLOW_NETWORKS", "FlowNetwork", "create_flow_network"]
