"""The port of task=demo, which is tried before a model is loaded."""

import errno
import socket

from r2gen.errors import UserError

LOOPBACK = ("127.0.0.1", "::1")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, of which 0 is a free one. Raises UserError naming the option."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"demo.host={host} is not an address of this machine: pass demo.host=127.0.0.1") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"demo.port={port} is in use by another program: pass another one, or demo.port=0 for a free one"
            ) from error
        raise UserError(f"demo.host={host} demo.port={port} cannot be used: {error.strerror}") from error
    return listener
