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
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
from .checks import checking, failed, guest, inside, longest_gap, pings, report, run, serving, until, wire, within

GUEST_IP, HOST_IP = "10.0.0.1", "10.0.0.2"
SWITCH, HOST = f"weir-wire-{os.getpid()}", f"weir-host-{os.getpid()}"


def host(*words, **options):
    return within(HOST, *words, **options)


def check_pings():
    for way, text in (("host to guest", lambda: host("ping", "-q", "-i", "0.02", "-c", 200, GUEST_IP)),
                      ("guest to host", lambda: inside("A", f"ping -q -i 0.02 -c 200 {HOST_IP}"))):
        with checking("ping " + way):
            sent, received, average = pings(text())
            report("ping " + way, sent == received == 200, sent=sent, lost=sent - received, round_trip_ms=average)


def loopback():
    """Bits a second that the guest's CPU can do at all."""
    inside("A", "iperf3 -s -D -p 5300")
    text = inside("A", "iperf3 -J -t 2 -p 5300 -c 127.0.0.1")
    return json.loads(text)["end"]["sum_received"]["bits_per_second"]


def check_tcp(seconds, best, when=""):
    for way, direction in (("guest to host", ""), ("host to guest", "-R")):
        with checking(f"tcp {way}{when}"):
            with serving(HOST, 5201, "iperf3", "-s", "-1"):
                text = inside("A", f"iperf3 -J -t {seconds} -c {HOST_IP} {direction}", seconds + 60)
            end = json.loads(text)["end"]
            rate = end["sum_received"]["bits_per_second"]
            report(f"tcp {way}{when}", rate > best / 5, loopback_gbit_s=round(best / 1e9, 3), gbit_s=round(rate / 1e9, 3),
                   retransmits=end["sum_sent"].get("retransmits"), seconds=seconds)


def check_integrity(directory):
    with checking("integrity"):
        sent = directory / "sent"
        sent.write_bytes(os.urandom(16 << 20))
        with serving(HOST, 8080, "python3", "-m", "http.server", "8080", "--directory", directory):
            inside("A", f"wget -q -O /tmp/got http://{HOST_IP}:8080/sent && httpd -p 8080 -h /tmp")
        host("busybox", "wget", "-q", "-O", directory / "back", f"http://{GUEST_IP}:8080/got")
        report("integrity", sent.read_bytes() == (directory / "back").read_bytes(), bytes=16 << 20)


def wrong_checksums(snmp):
    """Of TCP and UDP, by /proc/net/snmp."""
    rows = [line.split() for line in snmp.splitlines() if line.startswith(("Tcp:", "Udp:"))]
    return sum(int(value) for names, values in zip(rows[::2], rows[1::2])
               for name, value in zip(names, values) if name == "InCsumErrors")


def check_checksums():
    with checking("checksums"):
        wrong = {"host": wrong_checksums(host("cat", "/proc/net/snmp")),
                 "guest": wrong_checksums(inside("A", "cat /proc/net/snmp"))}
        report("checksums", not any(wrong.values()), wrong=wrong)


def check_restart(tell):
    with checking("restart"):
        inside("A", f"ping -i 0.02 -w 600 {HOST_IP} >/tmp/during 2>&1 & echo $! >/tmp/during.pid")
        replies = lambda: inside("A", "grep -c seq= /tmp/during || true").strip()       # noqa: E731
        until("pings are answered", lambda: int(replies()) > 20)
        tell("crash")
        tell("restart")
        before = int(replies())
        until("pings are answered again", lambda: int(replies()) > before + 50)
        inside("A", "kill -INT $(cat /tmp/during.pid); sleep 0.5")
        text = inside("A", "cat /tmp/during")
        sent, received, _ = pings(text)
        gap = 20 * longest_gap(text)
        report("restart", gap <= 3_000, sent=sent, lost=sent - received, longest_gap_ms=gap)


def check_leavings():
    with checking("leavings"):
        link = json.loads(run("ip", "-n", SWITCH, "-d", "-j", "link", "show", "up0"))[0]
        report("leavings", "xdp" not in link and not link["promiscuity"], promiscuity=link["promiscuity"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listens", choices=["weir", "guest"], default="guest")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))         # so that `finally` is reached
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-uplink-"))
    os.environ["GUEST_STATE"] = str(directory / "guests")
    os.mkdir(directory / "guests")

    def tell(*words):
        return run("ip", "netns", "exec", SWITCH, HERE / "weir", directory, *words)

    try:
        with wire(SWITCH, HOST):
            run("ip", "-n", HOST, "addr", "add", HOST_IP + "/24", "dev", "eth0")
            try:
                tell("start", "--ports", 1, "--listens", options.listens, "--uplink", "up0")
                role = "--server" if options.listens == "guest" else "--client"
                guest("start", "--name", "A", "--ip", GUEST_IP + "/24", "--sock", str(directory / "p0.sock"), role)
                checks(options, directory, tell)
            except BaseException:
                failed.append("boot")           # the log is wanted
                raise
            finally:
                subprocess.run([str(HERE / "guest"), "stop", "A"], capture_output=True)
                subprocess.run([str(HERE / "weir"), str(directory), "stop"], capture_output=True)
                if failed and (directory / "weir.log").exists():
                    print((directory / "weir.log").read_text()[-3000:], file=sys.stderr)
            check_leavings()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


def checks(options, directory, tell):
    mode = json.loads(tell("show", "uplinks", "--json"))[0]
    report("boot", mode["state"] == "up", device=mode["device"], mode=mode["mode"], listens=options.listens)
    check_pings()
    best = loopback()
    check_tcp(options.seconds, best)
    check_integrity(directory)
    check_restart(tell)
    check_tcp(options.seconds, best, " after restart")
    check_checksums()
    drops = json.loads(tell("show", "port", "wire", "--json"))["drops"]
    drops = {drop["reason"]: drop["frames"] for drop in drops if drop["frames"]}
    with checking("guest kernel log"):
        kernel = inside("A", "dmesg | grep -E 'WARN|BUG|Oops|stall|NETDEV WATCHDOG' | head -5")
        report("guest kernel log", not kernel, lines=kernel, dropped_since_restart=drops)
