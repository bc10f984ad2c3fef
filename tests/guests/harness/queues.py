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
import subprocess
import sys
import time
from collections.abc import Callable

from .checks import (Pinging, check_kernel_log, checking, failed, guest, inside, longest_gap, matched, pings,
                     report, stop_guests)
from .daemon import log_of
from .paths import WEIR
from .process import Word, exit_on_term, program, run, until

PEER = "10.0.0.2"
Tell = Callable[..., str]
# Each flow goes by the queue that its hash says, not by that of the CPU it runs on: so all queues are used.
# With one queue there is nothing to say, and no file takes it.
SPREAD = "for q in /sys/class/net/eth0/queues/tx-*/xps_cpus; do echo 0 > $q; done 2>/dev/null; true"


def carried(count: int) -> list[int]:
    """Packets by queue of A, both directions."""
    text = inside("A", "ethtool -S eth0")
    return [int(matched(rf"{way}_queue_{queue}_packets: (\d+)", text).group(1))
            for way in ("rx", "tx") for queue in range(count)]


def check_ping(label: str, count: int = 200, lost_max: int = 1) -> None:
    """Pings to B, of which so many may be lost."""
    with checking(label):
        sent, received, average = pings(inside("A", f"ping -q -i 0.02 -c {count} {PEER}"))
        report(label, sent - received <= lost_max, sent=sent, lost=sent - received, round_trip_ms=average)


def check_tcp(label: str, count: int, seconds: int) -> None:
    """TCP both ways, by every queue."""
    with checking(label):
        inside("A", SPREAD)
        inside("B", SPREAD)
        before = carried(count)
        rates: list[float] = []
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


def during(label: str, action: Callable[[], object], gap_max_s: float, lost_max: int | None = None) -> None:
    """Pings every 20 ms while action() runs."""
    with checking(label):
        pinging = Pinging(PEER)
        until("pings are answered", lambda: pinging.n_replies() > 20)
        action()
        before = pinging.n_replies()
        until("pings are answered still", lambda: pinging.n_replies() > before + 50)
        text = pinging.end()
        sent, received, _ = pings(text)
        gap = 0.02 * longest_gap(text)
        good = gap <= gap_max_s and (lost_max is None or sent - received <= lost_max)
        report(label, good, sent=sent, lost=sent - received, longest_gap_ms=round(1000 * gap))


def check_port(label: str, tell: Tell, count: int) -> None:
    """The daemon has refused nothing of A's front-end, and so many queue pairs run."""
    with checking(label):
        port = json.loads(tell("show", "port", "vm0/net0", "--json"))
        states = {queue["state"] for queue in port["queues"][:2 * count]}
        drops = {drop["reason"]: drop["frames"] for drop in port["drops"]}
        refusal = port["connection"].get("last_refusal")
        report(label, states == {"runs"} and not refusal and "queue-disabled" not in drops,
               states=sorted(states), refusal=refusal, drops=drops, memory_regions=port["connection"]["memory_regions"])


def check_memory(label: str) -> None:
    """Modules of memory come and go."""
    def swap() -> None:
        for command in (("plug", "A", "d0"), ("plug", "A", "d1"), ("unplug", "A", "d0"),
                        ("plug", "A", "d2", "--size", "256M"), ("unplug", "A", "d1"), ("unplug", "A", "d2")):
            guest(*command)
    during(label, swap, 1, lost_max=10)


def set_queues(n: int) -> None:
    """Has A use so many queue pairs."""
    inside("A", f"ethtool -L eth0 combined {n}")


def check_count(count: int, directory: pathlib.Path, options: argparse.Namespace, tell: Tell) -> None:
    """Boots two guests with so many queue pairs, and makes all checks."""
    def label(text: str) -> str:
        return f"{count} queue pair{'s'[:count > 1]}, {text}"

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
    check_kernel_log(label("guest kernel log"))


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--listens", choices=["weir", "guest"], default="guest")
    parser.add_argument("--counts", default="1,2,4,8")
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    exit_on_term()
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)

    def tell(*words: Word) -> str:
        return run(WEIR, directory, *words)

    tell("start", "--ports", 2, "--queues", 8, "--listens", options.listens)
    try:
        for count in map(int, options.counts.split(",")):
            try:
                check_count(count, directory, options, tell)
            except (RuntimeError, subprocess.SubprocessError) as error:
                report(f"{count} queue pairs", False, error=str(error))
            finally:
                stop_guests("A", "B")
    finally:
        if failed:
            print(log_of(directory, 3000), file=sys.stderr)
        subprocess.run([WEIR, directory, "stop"], capture_output=True)
    return 1 if failed else 0
