"""gRPC's server side over HTTP/2, on asyncio's own transports.

A unary call costs a tenth of what it does behind the completion queue of gRPC's C core, and one port can speak HTTP/1.1
too. Written from RFC 9113 (HTTP/2), RFC 7541 (its headers, which `hpack` reads) and "gRPC over HTTP2" of gRPC's
documentation. It knows nothing of what it carries.
"""
