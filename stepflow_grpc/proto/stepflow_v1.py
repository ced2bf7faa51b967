"""The messages of `stepflow.v1` by name, of the private pool. The stub beside this file says their fields."""

from stepflow_grpc.messages import by_name

__getattr__ = by_name("stepflow.v1")
