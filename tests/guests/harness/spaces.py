"""Network namespaces with wires between them, and servers in them. As root."""
import contextlib
import subprocess
from collections.abc import Iterator

from .process import Word, run, until

End = tuple[str, str]                           # a namespace, and a device's name in it


@contextlib.contextmanager
def spaces(*names: str) -> Iterator[None]:
    """Network namespaces of these names, whose devices have no IPv6 addresses. They and the devices in them are gone
    at the end."""
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            within(name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def within(space: str, *words: Word, timeout: float = 120) -> str:
    """Runs a command in a network namespace to its end."""
    return run("ip", "netns", "exec", space, *words, timeout=timeout)


def veth(a: End, b: End, queues: int = 1) -> None:
    """Two devices at the two ends of one wire, with so many queues each way; both up."""
    (space, device), (peer_space, peer) = a, b
    count = ("numtxqueues", queues, "numrxqueues", queues)
    run("ip", "link", "add", device, "netns", space, *count, "type", "veth", "peer", "name", peer, "netns", peer_space,
        *count)
    for space, device in (a, b):
        run("ip", "-n", space, "link", "set", device, "up")


@contextlib.contextmanager
def wire(switch: str, host: str, queues: int = 1) -> Iterator[None]:
    """Two network namespaces of these names: in the first a device up0, in the second eth0 at its other end."""
    with spaces(switch, host):
        veth((switch, "up0"), (host, "eth0"), queues)
        yield


def listens(space: str, port: int) -> bool:
    """Whether somebody in a network namespace listens on this TCP port; connections of before may be there too."""
    rows = [line.split() for line in within(space, "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@contextlib.contextmanager
def serving(space: str, port: int, *words: Word) -> Iterator[None]:
    """A server in a network namespace that listens on this port."""
    server = subprocess.Popen(["ip", "netns", "exec", space, *map(str, words)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(f"{words[0]} listens", lambda: listens(space, port))
        yield
    finally:
        server.kill()
        server.wait()
