"""uplink - a Linux guest behind an uplink: what it and a host on the wire see of each other.

    uplink [--listens weir|guest] [--seconds N]

As root. Makes two network namespaces with a veth between them: in one runs a weir whose uplink is
that device, in the other is the host on the wire. Boots a guest on weir and checks, in order:
  ping       200 pings each way: none lost
  tcp        iperf3 each way, every offload as the kernels set it: at least a fifth of what the emulated
             guest gets from itself over its loopback
  integrity  a 16 MiB random file each way: same checksum at both ends
  restart    pings every 20 ms while weir is killed (-9) and started again: an outage of three seconds at
             most (a front-end that connects looks once a second); then TCP again
  checksums  neither kernel has counted a wrong one
  leavings   once weir has ended, its device has no program and is not promiscuous
Prints one JSON object a check and ends with 1 if any failed. Needs GUEST_IMAGE, which names what
mkguest made. Everything it starts or makes is gone when it ends.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

from .checks import (Pinging, check_kernel_log, checking, failed, guest, inside, longest_gap, pings, report,
                     stop_guests)
from .daemon import directory, log_of
from .paths import WEIR
from .process import Word, exit_on_term, program, run, until
from .spaces import serving, wire, within

GUEST_IP, HOST_IP = "10.0.0.1", "10.0.0.2"
SWITCH, HOST = f"weir-wire-{os.getpid()}", f"weir-host-{os.getpid()}"
Tell = Callable[..., str]


def host(*words: Word) -> str:
    """Runs a command on the host on the wire."""
    return within(HOST, *words)


def check_pings() -> None:
    """Pings each way."""
    ways: tuple[tuple[str, Callable[[], str]], ...] = (
        ("host to guest", lambda: host("ping", "-q", "-i", "0.02", "-c", 200, GUEST_IP)),
        ("guest to host", lambda: inside("A", f"ping -q -i 0.02 -c 200 {HOST_IP}")))
    for way, text in ways:
        with checking("ping " + way):
            sent, received, average = pings(text())
            report("ping " + way, sent == received == 200, sent=sent, lost=sent - received, round_trip_ms=average)


def loopback() -> float:
    """Bits a second that the guest's CPU can do at all."""
    inside("A", "iperf3 -s -D -p 5300")
    text = inside("A", "iperf3 -J -t 2 -p 5300 -c 127.0.0.1")
    return float(json.loads(text)["end"]["sum_received"]["bits_per_second"])


def check_tcp(seconds: int, best: float, when: str = "") -> None:
    """TCP each way, against `best` bits a second."""
    for way, direction in (("guest to host", ""), ("host to guest", "-R")):
        with checking(f"tcp {way}{when}"):
            with serving(HOST, 5201, "iperf3", "-s", "-1"):
                text = inside("A", f"iperf3 -J -t {seconds} -c {HOST_IP} {direction}", seconds + 60)
            end = json.loads(text)["end"]
            rate = end["sum_received"]["bits_per_second"]
            report(f"tcp {way}{when}", rate > best / 5, loopback_gbit_s=round(best / 1e9, 3), gbit_s=round(rate / 1e9, 3),
                   retransmits=end["sum_sent"].get("retransmits"), seconds=seconds)


def check_integrity(path: pathlib.Path) -> None:
    """A random file to the guest and back."""
    with checking("integrity"):
        sent = path / "sent"
        sent.write_bytes(os.urandom(16 << 20))
        with serving(HOST, 8080, "python3", "-m", "http.server", "8080", "--directory", path):
            inside("A", f"wget -q -O /tmp/got http://{HOST_IP}:8080/sent && httpd -p 8080 -h /tmp")
        host("busybox", "wget", "-q", "-O", path / "back", f"http://{GUEST_IP}:8080/got")
        report("integrity", sent.read_bytes() == (path / "back").read_bytes(), bytes=16 << 20)


def wrong_checksums(snmp: str) -> int:
    """Of TCP and UDP, by /proc/net/snmp."""
    rows = [line.split() for line in snmp.splitlines() if line.startswith(("Tcp:", "Udp:"))]
    return sum(int(value) for names, values in zip(rows[::2], rows[1::2])
               for name, value in zip(names, values) if name == "InCsumErrors")


def check_checksums() -> None:
    """Neither kernel has counted a wrong one."""
    with checking("checksums"):
        wrong = {"host": wrong_checksums(host("cat", "/proc/net/snmp")),
                 "guest": wrong_checksums(inside("A", "cat /proc/net/snmp"))}
        report("checksums", not any(wrong.values()), wrong=wrong)


def check_restart(tell: Tell) -> None:
    """Pings while weir is killed and started again."""
    with checking("restart"):
        pinging = Pinging(HOST_IP)
        until("pings are answered", lambda: pinging.n_replies() > 20)
        tell("crash")
        tell("restart")
        before = pinging.n_replies()
        until("pings are answered again", lambda: pinging.n_replies() > before + 50)
        text = pinging.end()
        sent, received, _ = pings(text)
        gap = 20 * longest_gap(text)
        report("restart", gap <= 3_000, sent=sent, lost=sent - received, longest_gap_ms=gap)


def check_leavings() -> None:
    """The device is as it was."""
    with checking("leavings"):
        link = json.loads(run("ip", "-n", SWITCH, "-d", "-j", "link", "show", "up0"))[0]
        report("leavings", "xdp" not in link and not link["promiscuity"], promiscuity=link["promiscuity"])


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--listens", choices=["weir", "guest"], default="guest")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    exit_on_term()
    with directory("weir-uplink-") as path:
        os.environ["GUEST_STATE"] = str(path / "guests")
        os.mkdir(path / "guests")
        with wire(SWITCH, HOST):
            run("ip", "-n", HOST, "addr", "add", HOST_IP + "/24", "dev", "eth0")
            with_guest(options, path)
            check_leavings()
    return 1 if failed else 0


def with_guest(options: argparse.Namespace, path: pathlib.Path) -> None:
    """All checks that need a weir and a guest; both are gone at the end."""
    def tell(*words: Word) -> str:
        return within(SWITCH, WEIR, path, *words)

    try:
        tell("start", "--ports", 1, "--listens", options.listens, "--uplink", "up0")
        role = "--server" if options.listens == "guest" else "--client"
        guest("start", "--name", "A", "--ip", GUEST_IP + "/24", "--sock", str(path / "p0.sock"), role)
        checks(options, path, tell)
    except BaseException:
        failed.append("boot")                   # the log is wanted
        raise
    finally:
        stop_guests("A")
        subprocess.run([WEIR, path, "stop"], capture_output=True)
        if failed:
            print(log_of(path, 3000), file=sys.stderr)


def checks(options: argparse.Namespace, path: pathlib.Path, tell: Tell) -> None:
    """What has to hold while weir runs."""
    mode = json.loads(tell("show", "uplinks", "--json"))[0]
    report("boot", mode["state"] == "up", device=mode["device"]["name"], mode=mode["device"]["xdp"]["mode"], listens=options.listens)
    check_pings()
    best = loopback()
    check_tcp(options.seconds, best)
    check_integrity(path)
    check_restart(tell)
    check_tcp(options.seconds, best, " after restart")
    check_checksums()
    drops = json.loads(tell("show", "port", "wire", "--json"))["drops"]
    drops = {drop["reason"]: drop["frames"] for drop in drops}
    check_kernel_log("guest kernel log", dropped_since_restart=drops)
