"""Work waits in named queues and workers pull it: the gRPC server, worker and client."""
