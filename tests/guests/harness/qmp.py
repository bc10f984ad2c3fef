"""Unix sockets as lines of text: QEMU's control socket, and the agent in a guest."""
import json
import pathlib
import socket
import time
from typing import Any


class GuestError(Exception):
    """A guest or its QEMU did not do what it should; the text says what."""


def unix_connect(path: pathlib.Path, timeout: float) -> socket.socket:
    """Connect to a unix socket, waiting until somebody listens on it."""
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise GuestError(f"nothing listens on {path}") from None
            time.sleep(0.05)


class Lines:
    """A socket as lines of text, each read bounded in time."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pending = b""

    def write(self, text: str) -> None:
        """Writes one line."""
        self.connection.sendall(text.encode() + b"\n")

    def read(self, timeout: float) -> str:
        """The next line."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            data = self.connection.recv(65536)
            if not data:
                raise GuestError("connection closed")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode(errors="replace")


class Qmp:
    """QEMU's control socket."""

    def __init__(self, path: pathlib.Path, timeout: float = 30) -> None:
        self.lines = Lines(unix_connect(path, timeout))
        self.lines.read(timeout)            # greeting
        self.command("qmp_capabilities")

    def command(self, name: str, timeout: float = 30, **arguments: Any) -> Any:
        """What QEMU returns; `_` in the arguments' names stands for `-`."""
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.lines.write(json.dumps(request))
        while True:
            reply = json.loads(self.lines.read(timeout))
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise GuestError(f"{name}: {reply['error']['desc']}")
