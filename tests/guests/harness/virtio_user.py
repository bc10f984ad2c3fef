"""virtio-user - every virtio-net driver path of DPDK against a switch, without a guest.

    virtio-user --a SOCK --b SOCK [--server] [--only TEXT] [--restart COMMAND]

For each path (split or packed ring, mergeable or not, in order or not, vectorised, one or
several queues) starts two dpdk-testpmd, A and B, each with one virtio-user port on a
vhost-user socket of the switch, sends 128 frames of several sizes from A to B and from B to
A, and checks that exactly as many arrive as were sent (fewer than 128 where the driver's own
ring was full). The switch must forward a frame from A's port to the address of B's port,
known or unknown.

--server   testpmd listens on the sockets and the switch connects
--restart  also: kill and start the switch by COMMAND between two transfers (with --server)

Prints one JSON object a case; ends with 1 if any failed. Needs dpdk-testpmd, no hugepages.
"""
import argparse
import json
import os
import pathlib
import re
import select
import subprocess
import time

from .process import exit_on_term, program

PATHS = {
    "split mergeable": "packed_vq=0,mrg_rxbuf=1,in_order=0",
    "split non-mergeable": "packed_vq=0,mrg_rxbuf=0,in_order=0",
    "split in-order mergeable": "packed_vq=0,mrg_rxbuf=1,in_order=1",
    "split in-order non-mergeable": "packed_vq=0,mrg_rxbuf=0,in_order=1",
    "split vectorised": "packed_vq=0,mrg_rxbuf=0,in_order=1,vectorized=1",
    "packed mergeable": "packed_vq=1,mrg_rxbuf=1,in_order=0",
    "packed non-mergeable": "packed_vq=1,mrg_rxbuf=0,in_order=0",
    "packed in-order mergeable": "packed_vq=1,mrg_rxbuf=1,in_order=1",
    "packed in-order non-mergeable": "packed_vq=1,mrg_rxbuf=0,in_order=1",
    "packed, ring of 255": "packed_vq=1,mrg_rxbuf=1,in_order=0,queue_size=255",
    "split, 2 queue pairs": "packed_vq=0,mrg_rxbuf=1,in_order=0,queues=2",
    "split, 8 queue pairs": "packed_vq=0,mrg_rxbuf=1,in_order=0,queues=8,queue_size=1024",
    "packed, 2 queue pairs": "packed_vq=1,mrg_rxbuf=1,in_order=0,queues=2",
}
FRAMES = ["64", "1518", "64,128,256,512"]        # the last: one frame in four segments
BURSTS = 4                                       # of 32 frames
MAC = {"a": "02:00:00:00:0a:01", "b": "02:00:00:00:0b:01"}


class Testpmd:
    """One testpmd with one virtio-user port, driven by its prompt."""

    def __init__(self, name: str, sock: str, path: str, server: bool, nice: int) -> None:
        def setting(word: str, default: int) -> int:
            found = re.search(rf"\b{word}=(\d+)", path)
            return int(found[1]) if found else default

        self.name, self.sock, self.server = name, sock, server
        queues, size = setting("queues", 1), setting("queue_size", 256)
        vdev = f"net_virtio_user0,mac={MAC[name]},path={sock},{path},server={int(server)}"
        if "queue_size" not in path:
            vdev += f",queue_size={size}"
        # Enough for all rings full, since buffers that were sent are taken back late, and some to send.
        buffers = 4096 + 2 * size * queues
        peer = MAC["b" if name == "a" else "a"]
        self.process = subprocess.Popen(
            ["nice", "-n", str(nice), "stdbuf", "-oL", "dpdk-testpmd", "--no-pci", "--no-huge", "-m", "128", "--no-telemetry",
             "--no-shconf", "--log-level=user1:error", "--lcores", "0@0-1,1@0-1", "--vdev", vdev, "--", "-i",
             "--nb-cores=1", f"--rxq={queues}", f"--txq={queues}", f"--rxd={size}", f"--txd={size}",
             f"--total-num-mbufs={buffers}", "--forward-mode=rxonly", f"--eth-peer=0,{peer}", "--no-lsc-interrupt"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.text = ""

    def until(self, mark: str, timeout: float) -> str:
        """What it says before `mark`."""
        deadline = time.monotonic() + timeout
        while mark not in self.text:
            if time.monotonic() > deadline or self.process.poll() is not None:
                ended = self.process.poll()
                raise RuntimeError(f"testpmd {self.name} (ended: {ended}): no {mark!r} in: {self.text[-1500:]}")
            if select.select([self.stdout], [], [], 0.2)[0]:
                self.text += os.read(self.stdout.fileno(), 65536).decode(errors="replace")
        answer, self.text = self.text.split(mark, 1)
        return answer

    def tell(self, command: str) -> None:
        """testpmd runs what it is told in order, so nothing waits for its prompt."""
        self.stdin.write(command.encode() + b"\n")
        self.stdin.flush()

    def count(self) -> tuple[int, int]:
        """(received, sent) by now."""
        self.tell("show port stats 0")
        words = self.until("Tx-bps:", 60).split()
        received, sent = (int(words[words.index(f"{which}-packets:") + 1]) for which in ("RX", "TX"))
        return received, sent

    def relink(self) -> None:
        """Wait for the switch to be back. The driver listens, but takes a connection only when asked for its link."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            self.tell("show port info 0")
            answer = self.until("Link speed:", 60)
            if "Link status: up" in answer:
                return
            time.sleep(0.1)
        raise RuntimeError(f"testpmd {self.name}: no link within 15 s of the restart")

    def end(self) -> None:
        """Ends it, by force if need be."""
        try:
            self.stdin.write(b"stop\nquit\n")
            self.stdin.flush()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        if self.server:                           # one that was killed has left its socket
            pathlib.Path(self.sock).unlink(missing_ok=True)


def transfer(source: Testpmd, target: Testpmd, sizes: str) -> tuple[int, int]:
    """Send BURSTS of frames; (sent, arrived) at the target."""
    # Differences, since to clear the counters races with the driver, which adds to them all the time.
    sent_so_far, arrived_so_far = source.count()[1], target.count()[0]
    for command in ("stop", f"set txpkts {sizes}", f"start tx_first {BURSTS}"):
        source.tell(command)
    deadline, now = time.monotonic() + 8, (0, 0)
    while time.monotonic() < deadline:
        before, now = now, (source.count()[1] - sent_so_far, target.count()[0] - arrived_so_far)
        if now == before and now[0] > 0 and now[1] >= now[0]:
            break                                 # all is there and none too many came since
        time.sleep(0.2)
    return now


def one_path(name: str, path: str, options: argparse.Namespace) -> bool:
    """Transfers both ways over one path of the driver; whether all arrived."""
    tests: list[bool] = []
    started = time.monotonic()
    ends = [Testpmd(side, sock, path, options.server, options.nice)
            for side, sock in (("a", options.a), ("b", options.b))]
    figures: dict[str, list[int] | str] = {}
    try:
        for end in ends:
            end.tell("start")
            end.count()
        time.sleep(options.settle)
        a, b = ends
        for restarted in (False, True) if options.restart else (False,):
            if restarted:
                subprocess.run(options.restart, shell=True, check=True)
                for end in ends:
                    end.relink()
                time.sleep(options.settle)
            for sizes in FRAMES:
                for source, target in ((a, b), (b, a)):
                    sent, arrived = transfer(source, target, sizes)
                    figures[f"{source.name}>{target.name} {sizes}{' again' if restarted else ''}"] = [sent, arrived]
                    tests.append(arrived == sent > 0)
    except RuntimeError as error:
        tests.append(False)
        figures["error"] = str(error)
    finally:
        for end in ends:
            end.end()
    print(json.dumps({"path": name, "ok": all(tests), "seconds": round(time.monotonic() - started, 1),
                      "sent, arrived": figures}), flush=True)
    return all(tests)


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--a", required=True, metavar="SOCK")
    parser.add_argument("--b", required=True, metavar="SOCK")
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--restart", metavar="COMMAND")
    parser.add_argument("--only", default="", metavar="TEXT", help="only paths whose name holds TEXT")
    parser.add_argument("--settle", type=float, default=1.5, help="seconds for the switch to take the ports up")
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args()
    exit_on_term()
    results = [one_path(name, path, options) for name, path in PATHS.items() if options.only in name]
    return 0 if all(results) else 1
