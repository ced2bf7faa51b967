"""One file a gRPC service: a call becomes an operation of the engine."""
