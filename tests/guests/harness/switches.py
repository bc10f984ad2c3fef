"""What `tcp` measures: a switch between the device up0 and the NIC's, with a limit on what the NIC gets. As root."""
import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator

from .daemon import Daemon, directory, running
from .hosts import DST, DST_IP, DST_MAC, MID, SRC, SW, address
from .paths import OVS
from .process import Word, run, until
from .spaces import within

KINDS = ("weir", "weir-tap", "tbf", "htb", "ovs-egress", "ovs-ingress")
QUEUE_S = 0.02
POLLED = min(os.sched_getaffinity(0))


class NotRun(Exception):
    """This can't be run here, and why."""


def missing(kind: str) -> str | None:
    """What isn't here that this kind of switch needs."""
    if kind.startswith("ovs") and not pathlib.Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk").exists():
        return "no Open vSwitch with DPDK: apt-get install openvswitch-switch-dpdk"
    return None


def switch(kind: str, limit: float | None) -> contextlib.AbstractContextManager[Daemon | None]:
    """A switch of that kind between up0 and nic0, with a limit (Mbit/s) on what nic0 gets or None; the daemon if it is a
    weir."""
    if kind in ("weir", "weir-police"):
        return weir([vm("b", DST_MAC, "afxdp: { device: nic0 }", limit, kind == "weir-police")], "up0")
    if kind == "weir-tap":
        return with_tap(limit)
    if kind in ("tbf", "htb"):
        return bridge(kind, limit)
    return ovs(kind, limit)


def vm(name: str, mac: str, backend: str, limit: float | None, polices: bool = False) -> str:
    """A VM of the topology file, with a limit in Mbit/s on what it gets."""
    rate = f"    limit: {{ to-vm: {{ rate: {1000 * limit:.0f}kbit{', queue: none' if polices else ''} }} }}\n" if limit else ""
    return f'  {name}:\n{rate}    nics: {{ n: {{ network: lan, mac: "{mac}", {backend} }} }}\n'


@contextlib.contextmanager
def weir(vms: list[str], uplink: str | None = None, tap: tuple[str, str, str] | None = None) -> Iterator[Daemon]:
    """A weir with these VMs. `tap`: namespace, MAC and IP address of who gets the device tap0 as its eth0."""
    with directory() as path:
        (path / "weir.yaml").write_text(
            f"cores: [{POLLED}]\ncontrol: {{ path: {path}/control.sock }}\n" +
            (f"uplinks: {{ wire: {{ device: {uplink} }} }}\nnetworks: {{ lan: {{ uplink: wire }} }}\n"
             if uplink else "networks: { lan: {} }\n") + "vms:\n" + "".join(vms))
        with running(path, SW) as daemon:
            if os.getpriority(os.PRIO_PROCESS, 0) < 0:
                autogroup(daemon.pid)
            if tap:
                # It is up once its host has set it up.
                until("there is a tap", lambda: "tap0" in run("ip", "-n", SW, "-br", "link"))
                run("ip", "-n", SW, "link", "set", "tap0", "netns", tap[0], "name", "eth0")
                address(*tap)
            daemon.until_up(len(vms) + (uplink is not None))
            yield daemon


@contextlib.contextmanager
def with_tap(limit: float | None) -> Iterator[Daemon]:
    """The NIC's host has a tap as its eth0; the veth is out of the way meanwhile."""
    run("ip", "-n", DST, "link", "set", "eth0", "down", "name", "eth1")
    try:
        run("ip", "-n", DST, "addr", "flush", "dev", "eth1")
        with weir([vm("b", DST_MAC, "tap: { name: tap0 }", limit)], "up0", (DST, DST_MAC, DST_IP)) as daemon:
            yield daemon
    finally:
        until("the tap is gone", lambda: "eth0" not in run("ip", "-n", DST, "-br", "link"))
        run("ip", "-n", DST, "link", "set", "eth1", "name", "eth0")
        address(DST, DST_MAC, DST_IP)


@contextlib.contextmanager
def bridge(kind: str, limit: float | None) -> Iterator[None]:
    """The kernel's bridge, with a queueing discipline at nic0."""
    try:
        run("ip", "-n", SW, "link", "add", "br0", "type", "bridge", "stp_state", 0, "forward_delay", 0)
        for device in ("up0", "nic0"):
            run("ip", "-n", SW, "link", "set", device, "master", "br0")
        run("ip", "-n", SW, "link", "set", "br0", "up")
        if limit:
            tc = ["tc", "qdisc", "add", "dev", "nic0", "root"]
            # A burst of 4 ms, as weir has it, and of two frames at least.
            burst = max(3028, int(limit * 1e6 / 8 * 0.004))
            try:
                if kind == "tbf":
                    within(SW, *tc, "tbf", "rate", f"{1000 * limit:.0f}kbit", "burst", burst, "latency", f"{1000 * QUEUE_S:.0f}ms")
                else:
                    within(SW, *tc, "handle", "1:", "htb", "default", "1")
                    within(SW, "tc", "class", "add", "dev", "nic0", "parent", "1:", "classid", "1:1", "htb", "rate",
                           f"{1000 * limit:.0f}kbit")
            except RuntimeError as error:
                raise NotRun(f"this kernel has no {kind}: {error}") from error
        yield None
    finally:
        subprocess.run(["ip", "netns", "exec", SW, "tc", "qdisc", "del", "dev", "nic0", "root"], capture_output=True)
        subprocess.run(["ip", "-n", SW, "link", "del", "br0"], capture_output=True)


@contextlib.contextmanager
def ovs(kind: str, limit: float | None) -> Iterator[None]:
    """Open vSwitch with DPDK, on packet sockets at both devices."""
    with directory() as path:
        def tell(*words: Word) -> str:
            return within(SW, OVS, path, *words, timeout=60)

        # Its packet sockets see no partial checksums.
        for space in (SRC, MID, DST):
            for device in ("eth0", "far"):
                subprocess.run(["ip", "netns", "exec", space, "ethtool", "-K", device, "tx", "off"], capture_output=True)
        try:
            tell("start", "--ports", 0, "--here")
            if os.getpriority(os.PRIO_PROCESS, 0) < 0:
                autogroup((path / "vswitchd.pid").read_text().strip())
            for number, device in enumerate(("up0", "nic0")):
                tell("vsctl", "add-port", "br0", device + "p", "--", "set", "interface", device + "p", "type=dpdk",
                     f"options:dpdk-devargs=net_af_packet{number},iface={device}")
            if limit and kind == "ovs-egress":
                # In bytes of IP packets a second.
                rate = int(limit * 1e6 / 8 * 1500 / 1514)
                tell("vsctl", "set", "port", "nic0p", "qos=@q", "--", "--id=@q", "create", "qos", "type=egress-policer",
                     f"other-config:cir={rate}", "other-config:cbs=2048")
            elif limit:
                tell("vsctl", "set", "interface", "up0p", f"ingress_policing_rate={1000 * limit:.0f}",
                     f"ingress_policing_burst={800 * limit:.0f}")
            yield None
        finally:
            subprocess.run(["ip", "netns", "exec", SW, OVS, path, "stop"], capture_output=True)


def autogroup(pid: int | str) -> None:
    """Linux shares CPUs between sessions first, where it has this."""
    with contextlib.suppress(OSError):
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-20")
