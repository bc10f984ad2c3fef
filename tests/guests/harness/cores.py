"""cores - a Linux guest behind an uplink with two queues, while the cores of weir come and go.

    cores [--rounds N] [--idle SECONDS]

As root. Makes two network namespaces with a veth of two queues between them: in one runs a weir whose uplink is that
device, in the other is the host on the wire. Boots a guest with two queue pairs on weir. While four connections of TCP
and four flows of numbered datagrams go from the guest to the host, `cores:` is changed by `weir reload`, again and
again: one CPU, both, one (--rounds times, 50), the two CPUs in turn. Checks:
  cores      each change was put in force, and frames went on between any two
  switch     weir has dropped nothing of the guest's, and nothing was lost at the uplink
  datagrams  at the host none came late or twice, and those that did not come are counted there
  tcp        no segment came to the host before one that was sent earlier
  guest      it has connected once
  watchdog   a service manager that wants a sign of life each ten seconds got one each two at most; then, with
             `idle: adaptive` and nothing to do, for --idle seconds (20)
Prints one JSON object a check and ends with 1 if any failed. Needs GUEST_IMAGE, which names what mkguest made, and two
CPUs. Everything it starts or makes is gone when it ends.
"""
import argparse
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .checks import checking, failed, guest, inside, report, stop_guests
from .daemon import directory, log_of
from .paths import WEIR
from .process import Word, exit_on_term, program, run, until
from .spaces import wire, within

GUEST_IP, HOST_IP = "10.0.0.1", "10.0.0.2"
SWITCH, HOST = f"weir-cores-{os.getpid()}", f"weir-far-{os.getpid()}"
FLOWS = 4
# Frames that the uplink sends between two changes, at least.
BETWEEN = 100
# How often the manager wants a sign of life, and how long one may take: it is sent once a second.
WATCHDOG_S, SIGN_S = 10, 2.0
# Each flow goes by the queue that its hash says, not by that of the CPU it runs on.
SPREAD = "for q in /sys/class/net/eth0/queues/tx-*/xps_cpus; do echo 0 > $q; done 2>/dev/null; true"
Tell = Callable[..., str]


class Manager:
    """A service manager's socket, and when it last got a sign of life."""

    def __init__(self, path: pathlib.Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.1)
        self.signs: list[float] = []
        self.said: set[str] = set()
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        while not self.ends.is_set():
            with contextlib.suppress(TimeoutError):
                for line in self.socket.recv(4096).decode().splitlines():
                    if line.startswith("WATCHDOG="):
                        self.signs.append(time.monotonic())
                    self.said.add(line)

    def check(self, name: str, begin: float) -> None:
        """Since `begin` there was a sign often enough, and no complaint."""
        times = [begin, *(at for at in self.signs if at >= begin), time.monotonic()]
        longest = max(after - before for before, after in zip(times, times[1:]))
        tripped = "WATCHDOG=trigger" in self.said
        report(name, longest <= SIGN_S and not tripped, signs=len(times) - 2, longest_gap_s=round(longest, 2),
               seconds=round(times[-1] - begin, 1))

    def end(self) -> None:
        self.ends.set()
        self.thread.join()
        self.socket.close()


class Flow:
    """A server on the host on the wire; what it says in the end."""

    def __init__(self, port: int) -> None:
        words = ["ip", "netns", "exec", HOST, "iperf3", "-s", "-1", "-J", "-p", str(port)]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def result(self) -> Any:
        return json.loads(self.process.communicate(timeout=120)[0])


@contextlib.contextmanager
def flow(port: int) -> Iterator[Flow]:
    """A server that listens on this port of the host on the wire."""
    server = Flow(port)
    try:
        until("iperf3 listens", lambda: f":{port:04X}" in within(HOST, "cat", "/proc/net/tcp", "/proc/net/tcp6"))
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def counters() -> dict[str, int]:
    """What the kernel of the host on the wire counts."""
    rows = [line.split() for line in within(HOST, "cat", "/proc/net/netstat", "/proc/net/snmp").splitlines()]
    pairs = ((names[0] + name, value) for names, values in zip(rows[::2], rows[1::2])
             for name, value in zip(names[1:], values[1:]))
    return {name: int(value) for name, value in pairs}


def changes(path: pathlib.Path, tell: Tell, rounds: int) -> None:
    """One CPU, both, one, and so on; frames go by the uplink between any two."""
    def sent() -> int:
        return int(json.loads(tell("show", "uplinks", "--json"))[0]["counters"]["tx_frames"])

    file = path / "weir.yaml"
    text = file.read_text()
    begin, count, took = text.index("cores:"), 0, []
    line = text[begin:text.index("\n", begin)]
    for number in range(rounds):
        for cores in ("[0, 1]", f"[{(number + 1) % 2}]"):
            file.write_text(text.replace(line, f"cores: {cores}"))
            before, asked = sent(), time.monotonic()
            within(SWITCH, run(WEIR, path, "program").strip(), "--control", path / "control.sock", "reload")
            took.append(time.monotonic() - asked)
            until("frames go on", lambda: sent() >= before + BETWEEN)
            count += 1
    cores = json.loads(tell("show", "cores", "--json"))
    took.sort()
    report("cores", len(cores) == 1 and count == 2 * rounds, changes=count,
           reload_ms={"median": round(1000 * took[len(took) // 2], 1), "max": round(1000 * took[-1], 1)})


def check_forwarding(path: pathlib.Path, tell: Tell, rounds: int, manager: Manager) -> None:
    """TCP and numbered datagrams from the guest while cores come and go."""
    inside("A", SPREAD)
    before, begin = counters(), time.monotonic()
    with flow(5201) as tcp, flow(5202) as datagrams:
        # Longer than all changes take; ended after them.
        inside("A", f"iperf3 -c {HOST_IP} -p 5201 -P {FLOWS} -t 3600 >/tmp/tcp 2>&1 & echo $! >/tmp/tcp.pid")
        inside("A", f"iperf3 -c {HOST_IP} -p 5202 -P {FLOWS} -t 3600 -u -b 400k -l 200 >/tmp/udp 2>&1 & "
                    "echo $! >/tmp/udp.pid")
        started = counters()["Udp:InDatagrams"]
        until("datagrams come", lambda: counters()["Udp:InDatagrams"] > started + 100)
        with checking("cores"):
            changes(path, tell, rounds)
        inside("A", "kill -INT $(cat /tmp/udp.pid) $(cat /tmp/tcp.pid)")
        check_datagrams(datagrams.result(), before)
        check_tcp(tcp.result(), before)
    check_switch(tell)
    manager.check("watchdog, cores come and go", begin)


def check_datagrams(result: Any, before: dict[str, int]) -> None:
    """In order, and none lost but by the host itself."""
    with checking("datagrams"):
        streams = [interval_sum(result, stream["socket"]) for stream in result["start"]["connected"]]
        lost = sum(stream["lost"] for stream in streams)
        full = counters()["Udp:RcvbufErrors"] - before["Udp:RcvbufErrors"]
        late = max(0, sum(stream["late"] for stream in streams))
        report("datagrams", lost <= full and not late and all(stream["came"] > 0 for stream in streams), flows=streams,
               lost=lost, lost_by_the_host_itself=full, late_or_twice=late)


def interval_sum(result: Any, number: int) -> dict[str, int]:
    """Datagrams of one flow."""
    parts = [part for interval in result["intervals"] for part in interval["streams"] if part["socket"] == number]
    return {"came": sum(part["packets"] - part["lost_packets"] for part in parts),
            "lost": sum(part["lost_packets"] for part in parts),
            "late": sum(part.get("out_of_order", 0) for part in parts)}


def check_tcp(result: Any, before: dict[str, int]) -> None:
    """In order."""
    with checking("tcp"):
        now = counters()
        early = now["TcpExt:TCPOFOQueue"] - before["TcpExt:TCPOFOQueue"]
        received = result["end"]["sum_received"]
        report("tcp", not early and received["bytes"] > 0, segments_before_earlier_ones=early,
               mbit_s=round(received["bits_per_second"] / 1e6, 1), bytes=received["bytes"])


def check_switch(tell: Tell) -> None:
    """By what the switch itself counts."""
    with checking("switch"):
        port = json.loads(tell("show", "port", "vm0/net0", "--json"))
        uplink = json.loads(tell("show", "uplinks", "--json"))[0]
        drops = {drop["reason"]: drop["frames"] for drop in port["drops"]}
        lost = {name: n for name, n in uplink["device"].get("lost", {}).items() if n and name == "tx_invalid_descriptors"}
        report("switch", not drops and not lost, drops_of_the_guest=drops, lost_at_the_uplink=lost,
               drops_of_the_uplink={drop["reason"]: drop["frames"] for drop in uplink["drops"]},
               forwarded=port["counters"]["forwarded_frames"])
        connections = port["connection"]["connections"]
        report("guest", connections == 1, connections=connections)


def check_idle(seconds: int, manager: Manager) -> None:
    """Nothing to do, for so long."""
    with checking("watchdog, idle"):
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            time.sleep(0.5)
        manager.check("watchdog, idle", begin)


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--idle", type=int, default=20)
    options = parser.parse_args()
    exit_on_term()
    with directory("weir-cores-") as path:
        os.environ["GUEST_STATE"] = str(path / "guests")
        os.mkdir(path / "guests")
        manager = Manager(path / "notify")
        os.environ["NOTIFY_SOCKET"] = str(path / "notify")
        os.environ["WATCHDOG_USEC"] = str(WATCHDOG_S * 1_000_000)
        try:
            with wire(SWITCH, HOST, 2):
                # So that the host takes frames off each queue in order, whatever CPU they come from.
                within(HOST, "ethtool", "-K", "eth0", "gro", "on")
                run("ip", "-n", HOST, "addr", "add", HOST_IP + "/24", "dev", "eth0")
                with_guest(options, path, manager)
        finally:
            manager.end()
    return 1 if failed else 0


def with_guest(options: argparse.Namespace, path: pathlib.Path, manager: Manager) -> None:
    """All checks that need a weir and a guest; both are gone at the end."""
    def tell(*words: Word) -> str:
        return within(SWITCH, WEIR, path, *words)

    try:
        tell("start", "--ports", 1, "--queues", 2, "--listens", "weir", "--uplink", "up0, queues: 2")
        guest("start", "--name", "A", "--ip", GUEST_IP + "/24", "--sock", str(path / "p0.sock"), "--client",
              "--queues", "2")
        until("the guest reaches the host", lambda: "1 packets received" in
              inside("A", f"ping -q -c 1 -W 2 {HOST_IP} || true"))
        check_forwarding(path, tell, options.rounds, manager)
        check_idle(options.idle, manager)
    except BaseException:
        failed.append("boot")                   # the log is wanted
        raise
    finally:
        stop_guests("A")
        subprocess.run([WEIR, path, "stop"], capture_output=True)
        if failed:
            print(log_of(path, 3000), file=sys.stderr)
