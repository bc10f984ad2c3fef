"""vm2vm - two guests on one switch: what they see of each other, measured.

    vm2vm --a SOCK --b SOCK [--spare SOCK] [--server] [--restart COMMAND] [--guest OPTIONS]

Boots guests A and B on two vhost-user ports of a running switch and checks, in order:
  ping       200 pings A to B: loss and round trip
  tcp        iperf3 A to B and B to A, SECONDS each
  udp        iperf3 UDP, 64 byte payload, at a fixed offered rate: rate received and loss
  integrity  a 16 MiB random file through the switch: same checksum at both ends
  restart    (with --restart) pings every 20 ms while COMMAND kills and restarts the switch:
             the outage; then TCP again with the same guests, not rebooted
  migrate    (with --spare) pings every 20 ms while B live-migrates to the spare port: the loss
Prints one JSON object a check and ends with 1 if any failed. Uses ./guest, so set
GUEST_STATE and GUEST_IMAGE.
"""
import argparse
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Any

from .checks import (Pinging, check_kernel_log, checking, failed, guest, inside, longest_gap, pings, report,
                     stop_guests)
from .process import exit_on_term, program

ADDRESS = {"A": "10.0.0.1", "B": "10.0.0.2"}
Figures = dict[str, Any]
quiet: str | None = None                        # the command of --quiet


def is_quiet() -> bool:
    """Whether nothing else loads this machine, as far as one is asked to look."""
    return quiet is None or subprocess.run(quiet, shell=True).returncode == 0


def wait_quiet(limit: float = 150) -> None:
    """Waits until it is quiet, but not for ever."""
    until = time.monotonic() + limit
    while not is_quiet() and time.monotonic() < until:
        time.sleep(1)


def measured(measure: Callable[[], Figures]) -> Figures:
    """The figures of measure(). With --quiet COMMAND it is taken only while COMMAND says
    that nothing else loads this machine, and taken again if that changed meanwhile."""
    if not quiet:
        return measure()
    for _ in range(6):
        wait_quiet()
        figures = measure()
        if is_quiet():
            return dict(figures, quiet=True)
    return dict(figures, quiet=False)


def tcp(check: str, seconds: int, *flags: str, target: str | None = None) -> None:
    """iperf3 in guest A: Gbit/s received, and what the sender's TCP resent."""
    def measure() -> Figures:
        text = inside("A", f"iperf3 -J -t {seconds} -c {target or ADDRESS['B']} {' '.join(flags)}", seconds + 60)
        end = json.loads(text)["end"]
        return {"gbit_s": round(end["sum_received"]["bits_per_second"] / 1e9, 3),
                "retransmits": end["sum_sent"].get("retransmits"), "seconds": seconds}
    with checking(check):
        figures = measured(measure)
        report(check, figures["gbit_s"] > 0, **figures)


def ping_quickly() -> Figures:
    """200 pings from A to B."""
    sent, received, average = pings(inside("A", f"ping -q -i 0.02 -c 200 {ADDRESS['B']}"))
    return {"sent": sent, "lost": sent - received, "round_trip_ms": average}


def udp(rate: str, seconds: int) -> Figures:
    """iperf3 in guest A: packets sent and received."""
    text = inside("A", f"iperf3 -J -u -l 64 -b {rate} -t {seconds} -c {ADDRESS['B']}", seconds + 60)
    end = json.loads(text)["end"]["sum"]
    received = end["packets"] - end["lost_packets"]
    return {"sent_kpps": round(end["packets"] / end["seconds"] / 1000, 1),
            "received_kpps": round(received / end["seconds"] / 1000, 1)}


def ping_during(check: str, action: Callable[[], Figures | None], limit: float, interval: float = 0.02,
                settle: float = 6) -> None:
    """Ping A to B while action() runs; figures of the pings lost and the longest gap."""
    wait_quiet()
    with checking(check):
        pinging = Pinging(ADDRESS["B"], interval)
        time.sleep(2)
        started = time.monotonic()
        figures = action() or {}
        took = time.monotonic() - started
        time.sleep(settle)
        text = pinging.end()
        sent, received, _ = pings(text)
        gap = longest_gap(text)
        alive = max([int(n) for n in re.findall(r"seq=(\d+)", text)], default=0) > sent - 2 / interval
        report(check, alive and gap * interval <= limit, sent=sent, lost=sent - received,
               longest_gap_ms=round(gap * interval * 1000), action_s=round(took, 2), quiet=is_quiet(), **figures)


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--a", required=True)
    parser.add_argument("--b", required=True)
    parser.add_argument("--spare")
    parser.add_argument("--server", action="store_true", help="QEMU listens (as for guest start)")
    parser.add_argument("--restart", metavar="COMMAND", help="kills the switch and starts it again")
    parser.add_argument("--guest", default="", metavar="OPTIONS", help="more options for guest start")
    parser.add_argument("--repeat", type=int, default=1, help="restarts and migrations (there and back)")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--udp-rate", default="20M")
    parser.add_argument("--quiet", metavar="COMMAND", help="succeeds while the machine is free to measure")
    parser.add_argument("--keep", action="store_true", help="leave the guests running")
    options = parser.parse_args()
    exit_on_term()
    global quiet
    quiet = options.quiet
    try:
        boot(options)
        check_traffic(options)
        check_outages(options)
        check_kernel_log("guest kernel log")
    finally:
        if not options.keep:
            stop_guests("A", "B")
    return 1 if failed else 0


def boot(options: argparse.Namespace) -> None:
    """Both guests, and what the network device of A can do."""
    role = ["--server"] if options.server else ["--client"]
    started = time.monotonic()
    for name, sock in (("A", options.a), ("B", options.b)):
        guest("start", "--name", name, "--ip", ADDRESS[name] + "/24", "--sock", sock, *role,
              *shlex.split(options.guest))
    features = inside("A", "cat /sys/class/net/eth0/device/features; ethtool -k eth0 | "
                      "grep -E '^(tx-checksumming|tcp-seg|generic-rec)' | tr '\\n' ' '")
    bits, offloads = features.split("\n", 1)
    report("boot", True, seconds=round(time.monotonic() - started, 1), offloads=offloads.strip(),
           virtio_features=[n for n, bit in enumerate(bits) if bit == "1"])


def check_traffic(options: argparse.Namespace) -> None:
    """Pings, TCP, UDP and a file, with nothing in their way."""
    with checking("ping"):
        figures = measured(ping_quickly)
        report("ping", figures["lost"] <= 1, **figures)
    inside("A", "iperf3 -s -D -p 5300")
    tcp("loopback in A", 3, "-p 5300", target="127.0.0.1")    # the emulated CPU's own limit
    tcp("tcp A>B", options.seconds)
    tcp("tcp B>A", options.seconds, "-R")
    tcp("tcp 4 flows", options.seconds, "-P", "4")
    with checking("udp 64"):
        figures = measured(lambda: udp(options.udp_rate, options.seconds))
        report("udp 64", figures["received_kpps"] > 0, **figures)
    with checking("integrity"):
        inside("A", "dd if=/dev/urandom of=/tmp/sent bs=1M count=16 2>/dev/null; httpd -p 8080 -h /tmp")
        sums = {inside("A", "md5sum </tmp/sent"),
                inside("B", f"wget -q -O- http://{ADDRESS['A']}:8080/sent | md5sum")}
        report("integrity", len(sums) == 1, bytes=16 << 20)


def check_outages(options: argparse.Namespace) -> None:
    """Restarts of the switch and migrations of B, as far as they are asked for."""
    def restart() -> None:
        subprocess.run(options.restart, shell=True, check=True)

    for _ in range(options.repeat if options.restart else 0):
        ping_during("restart", restart, 10)
        tcp("tcp after restart", options.seconds)
    def migrate() -> Figures:
        figures: Figures = json.loads(guest("migrate", "B", "--to", ports[turn % 2]))
        return figures

    ports = [options.spare, options.b]
    for turn in range(options.repeat if options.spare else 0):
        ping_during("migrate", migrate, 5)
        tcp("tcp after migrate", options.seconds)
