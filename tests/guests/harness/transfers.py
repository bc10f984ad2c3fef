"""TCP from the host on the wire to the NIC, and pings beside it. As root."""
import argparse
import contextlib
import json
import re
import statistics
import subprocess
from typing import Any

from .checks import matched
from .hosts import DST, DST_IP, SRC
from .process import until
from .spaces import serving, within

Flow = tuple[str, str, str]                     # a namespace, its address, more options of iperf3


def transfer(cc: str, omit: int, seconds: int, pings: bool = False) -> dict[str, Any]:
    """One connection from the wire to the NIC; Mbit/s as received."""
    before = marked()
    with serving(DST, 5201, "iperf3", "-s", "-1"):
        beside = pinging(omit + seconds) if pings else None
        text = within(SRC, "iperf3", "-J", "-C", cc, "-O", omit, "-t", seconds, "-c", DST_IP, timeout=omit + seconds + 60)
    end = json.loads(text)["end"]
    done: dict[str, Any] = {"mbit": end["sum_received"]["bits_per_second"] / 1e6, "resent": end["sum_sent"].get("retransmits"),
            "marked": marked() - before}
    if beside:
        said = beside.communicate(timeout=60)[0]
        done["pings_ms"] = [float(time) for time in re.findall(r"time=([\d.]+) ms", said)]
        sent, came = map(int, matched(r"(\d+) packets transmitted, (\d+) received", said).groups())
        done["pings_lost"] = sent - came
    return done


def marked() -> int:
    """Frames with the mark "congestion experienced" that the host at the NIC has received."""
    names, values = (line.split() for line in within(DST, "cat", "/proc/net/netstat").splitlines()
                     if line.startswith("IpExt:"))
    return int(dict(zip(names, values))["InCEPkts"])


def pinging(seconds: int) -> subprocess.Popen[str]:
    """Ten a second of 58 bytes: a four-hundredth of 2 Mbit/s."""
    words = ["ip", "netns", "exec", SRC, "ping", "-i", "0.1", "-s", "16", "-c", str(10 * seconds), "-W", "5", DST_IP]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def transfers(options: argparse.Namespace, cc: str, flows: tuple[Flow, ...]) -> list[float]:
    """Connections at once; Mbit/s that each got."""
    with contextlib.ExitStack() as servers:
        clients = []
        for number, (space, ip, more) in enumerate(flows):
            servers.enter_context(serving(space, 5201 + number, "iperf3", "-s", "-1", "-p", 5201 + number))
        for number, (_, ip, more) in enumerate(flows):
            words = ["iperf3", "-J", "-C", cc, "-O", options.omit, "-t", options.seconds, "-p", 5201 + number, "-c", ip]
            clients.append(subprocess.Popen(["ip", "netns", "exec", SRC, *map(str, words), *more.split()],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
        said = [client.communicate(timeout=options.seconds + 60)[0] for client in clients]
    return [json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e6 for text in said]


def answered(ip: str) -> bool:
    """Whether the host at this address answers a ping within a second."""
    with contextlib.suppress(RuntimeError):
        within(SRC, "ping", "-q", "-c", 1, "-W", 1, ip)
        return True
    return False


def settle() -> float:
    """Waits until the way is there and empty; its round trip at rest in ms, the median of some."""
    until("pings are answered", lambda: answered(DST_IP), 20)
    said = within(SRC, "ping", "-i", "0.02", "-s", 16, "-c", 20, DST_IP)
    return statistics.median(float(time) for time in re.findall(r"time=([\d.]+) ms", said))
