"""queues - Linux guests with several queue pairs on a weir of their own: as good as with one?

    queues DIR [--listens weir|guest] [--counts 1,2,4,8] [--seconds N]

For each number of queue pairs boots guests A and B with that many (8 with two CPUs), and checks:
  ping      200 pings: none lost but the first
  tcp       iperf3 both ways, more flows than queues: every queue of A has carried some
  fewer     one queue pair instead of all (ethtool -L), then all again, pings each time
  memory    modules of memory plugged in and unplugged while pings pass: none lost but for ten
  restart   pings while weir is killed (-9) and started again: an outage of three seconds at most; TCP again
  reset     the machine of A is reset: it boots, pings, carries TCP by all queues
  port      no message of a front-end was refused, every queue runs, and nothing was dropped as sent by a disabled one
Prints one JSON object a check and ends with 1 if any failed. DIR is for weir and the guests. Needs GUEST_IMAGE.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
from .checks import GUEST, checking, failed, guest, inside, longest_gap, pings, report, run, until

PEER = "10.0.0.2"
# Each flow goes by the queue that its hash says, not by that of the CPU it runs on: so all queues are used.
# With one queue there is nothing to say, and no file takes it.
SPREAD = "for q in /sys/class/net/eth0/queues/tx-*/xps_cpus; do echo 0 > $q; done 2>/dev/null; true"


def carried(count):
    """Packets by queue of A, both directions."""
    text = inside("A", "ethtool -S eth0")
    return [int(re.search(rf"{way}_queue_{queue}_packets: (\d+)", text).group(1))
            for way in ("rx", "tx") for queue in range(count)]


def check_ping(label, count=200, lost_max=1):
    with checking(label):
        sent, received, average = pings(inside("A", f"ping -q -i 0.02 -c {count} {PEER}"))
        report(label, sent - received <= lost_max, sent=sent, lost=sent - received, round_trip_ms=average)


def check_tcp(label, count, seconds):
    with checking(label):
        inside("A", SPREAD)
        inside("B", SPREAD)
        before, rates = carried(count), []
        for direction in ("", "-R"):
            for span in (seconds, 4 * seconds):         # emulated CPUs that others use too may need longer to begin
                text = inside("A", f"iperf3 -J -t {span} -P {4 * count} -c {PEER} {direction}", span + 90)
                rate = round(json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e6, 1)
                if rate > 0:
                    break
            rates.append(rate)
        packets = [now - then for now, then in zip(carried(count), before)]
        report(label, min(rates) > 0 and min(packets) > 0, mbit_s=rates, packets_by_rx_queue=packets[:count],
               packets_by_tx_queue=packets[count:])


def during(label, action, gap_max_s, lost_max=None):
    """Pings every 20 ms while action() runs."""
    with checking(label):
        inside("A", f"ping -i 0.02 -w 600 {PEER} >/tmp/during 2>&1 & echo $! >/tmp/during.pid")
        replies = lambda: int(inside("A", "grep -c seq= /tmp/during || true").strip())          # noqa: E731
        until("pings are answered", lambda: replies() > 20)
        action()
        before = replies()
        until("pings are answered still", lambda: replies() > before + 50)
        inside("A", "kill -INT $(cat /tmp/during.pid); sleep 0.5")
        text = inside("A", "cat /tmp/during")
        sent, received, _ = pings(text)
        gap = 0.02 * longest_gap(text)
        good = gap <= gap_max_s and (lost_max is None or sent - received <= lost_max)
        report(label, good, sent=sent, lost=sent - received, longest_gap_ms=round(1000 * gap))


def check_port(label, tell, count):
    with checking(label):
        port = json.loads(tell("show", "port", "vm0/net0", "--json"))
        states = {queue["state"] for queue in port["queues"][:2 * count]}
        drops = {drop["reason"]: drop["frames"] for drop in port["drops"] if drop["frames"]}
        refusal = port["connection"]["refusal"]
        report(label, states == {"runs"} and not refusal and "queue-disabled" not in drops,
               states=sorted(states), refusal=refusal, drops=drops, memory_regions=port["connection"]["memory_regions"])


def check_memory(label):
    def swap():
        for command in (("plug", "A", "d0"), ("plug", "A", "d1"), ("unplug", "A", "d0"),
                        ("plug", "A", "d2", "--size", "256M"), ("unplug", "A", "d1"), ("unplug", "A", "d2")):
            guest(*command)
    during(label, swap, 1, lost_max=10)


def set_queues(n):
    inside("A", f"ethtool -L eth0 combined {n}")


def check_count(count, directory, options, tell):
    label = lambda text: f"{count} queue pair{'s'[:count > 1]}, {text}"         # noqa: E731
    cpus = min(count, 4) if count < 8 else 2
    role = "--server" if options.listens == "guest" else "--client"
    os.environ["GUEST_STATE"] = str(directory / f"guests-{count}")
    os.mkdir(os.environ["GUEST_STATE"])
    started = time.monotonic()
    for name, port, address in (("A", 0, "10.0.0.1"), ("B", 1, PEER)):
        guest("start", "--name", name, "--ip", address + "/24", "--sock", str(directory / f"p{port}.sock"), role,
              "--queues", str(count), "--cpus", str(cpus), "--slots", "4")
        if count > cpus:
            inside(name, f"ethtool -L eth0 combined {count}")
    report(label("boot"), True, listens=options.listens, cpus=cpus, seconds=round(time.monotonic() - started, 1))
    check_ping(label("ping"))
    check_tcp(label("tcp"), count, options.seconds)
    if count > 1:
        set_queues(1)
        check_ping(label("one of them in use, ping"), 50)
        set_queues(count)
        check_ping(label("all in use again, ping"), 50)
    check_memory(label("memory plugged and unplugged"))
    check_port(label("port"), tell, count)
    during(label("kill -9 of weir"), lambda: (tell("crash"), tell("restart")), 3)
    check_tcp(label("tcp after it"), count, options.seconds)
    with checking(label("reset")):
        guest("reset", "A")
        if count > cpus:
            set_queues(count)
        report(label("reset"), True)
    check_ping(label("ping after it"))
    check_tcp(label("tcp after that"), count, options.seconds)
    check_port(label("port in the end"), tell, count)
    with checking(label("guest kernel log")):
        kernel = inside("A", "dmesg | grep -E 'WARN|BUG|Oops|stall|NETDEV WATCHDOG' | head -5")
        report(label("guest kernel log"), not kernel, lines=kernel)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--listens", choices=["weir", "guest"], default="guest")
    parser.add_argument("--counts", default="1,2,4,8")
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))         # so that `finally` is reached
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)

    def tell(*words):
        return run(HERE / "weir", directory, *words)

    tell("start", "--ports", 2, "--queues", 8, "--listens", options.listens)
    try:
        for count in map(int, options.counts.split(",")):
            try:
                check_count(count, directory, options, tell)
            except (RuntimeError, subprocess.SubprocessError) as error:
                report(f"{count} queue pairs", False, error=str(error))
            finally:
                for name in ("A", "B"):
                    subprocess.run([GUEST, "stop", name], capture_output=True)
    finally:
        if failed:
            print((directory / "weir.log").read_text()[-3000:], file=sys.stderr)
        subprocess.run([str(HERE / "weir"), str(directory), "stop"], capture_output=True)
    return 1 if failed else 0
