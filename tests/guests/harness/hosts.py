"""The hosts of `tcp`: one on the wire and one at the NIC, and the wire between them and the switch. As root."""
import argparse
import contextlib
import os
import subprocess
from collections.abc import Iterator

from .process import run
from .spaces import spaces, veth, within

# Namespaces: on the wire, in the midst of a long one, the switch's, at the NIC, at another NIC.
SRC, MID, SW, DST, OTHER = (f"weir-tcp-{os.getpid()}-{role}" for role in ("src", "mid", "sw", "dst", "other"))
SRC_IP, DST_IP, OTHER_IP = "10.0.0.1", "10.0.0.2", "10.0.0.3"
SRC_MAC, DST_MAC, OTHER_MAC = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))


@contextlib.contextmanager
def world(options: argparse.Namespace, far: int) -> Iterator[None]:
    """A host on the wire and one at the NIC, devices up0 and nic0 of the switch's namespace between them, and a wire of
    so many ms there and back. A tap takes nic0's place by itself."""
    with spaces(SRC, MID, SW, DST), contextlib.ExitStack() as more:
        if far:
            veth((SRC, "eth0"), (MID, "near"))
            veth((MID, "far"), (SW, "up0"))
            # With a queue the kernel holds back who sends more than a veth's ring takes; without it would drop.
            run("ip", "netns", "exec", MID, "tc", "qdisc", "add", "dev", "far", "root", "pfifo", "limit", 100000)
            run("ip", "netns", "exec", MID, "tc", "qdisc", "add", "dev", "near", "root", "pfifo", "limit", 100000)
            more.enter_context(long_wire(options, far))
        else:
            veth((SRC, "eth0"), (SW, "up0"))
        veth((SW, "nic0"), (DST, "eth0"))
        for space in (SRC, DST):
            tune(space)
            within(space, "sysctl", "-qw", f"net.ipv4.tcp_ecn={1 if options.ecn else 2}")
        address(SRC, SRC_MAC, SRC_IP)
        address(DST, DST_MAC, DST_IP)
        yield


def tune(space: str) -> None:
    """Windows that fill 1.2 Gbit/s over 20 ms, and no run remembers another."""
    within(space, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_rmem=4096 131072 16777216",
           "net.ipv4.tcp_wmem=4096 65536 16777216")


def address(space: str, mac: str, ip: str) -> None:
    """Addresses of a namespace's eth0, which is up then."""
    run("ip", "-n", space, "link", "set", "eth0", "address", mac)
    run("ip", "-n", space, "link", "set", "eth0", "up")
    run("ip", "-n", space, "addr", "replace", ip + "/24", "dev", "eth0")


@contextlib.contextmanager
def long_wire(options: argparse.Namespace, far: int) -> Iterator[None]:
    """A wire of `far` ms there and back between the devices near and far."""
    words = ["ip", "netns", "exec", MID, options.delay, "near", "far", str(1000 * far // 2)]
    # It does little and must be on time.
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)))
    assert process.stdout
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(words)}: ended with {process.wait()}")
        yield
        said = process.communicate("", timeout=20)[0]
        if process.returncode:
            raise RuntimeError(f"the long wire lost frames: {said}")
    finally:
        process.kill()
        process.wait()
