"""The RPC layer: method table, pipeline, gRPC adapter and one file of handlers a service."""
