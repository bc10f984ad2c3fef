"""scrape - what a scrape of a weir with many ports takes, and what it costs the polling core.

    scrape [--weir PROGRAM] [--guest PROGRAM] [--ports N] [--scrapes N] [--rounds N] [--busy]

On a weir of its own in a private directory, polling on the first CPU; the software guest's pair floods
from vm0 to vm1 on the last CPU, where the daemon serves scrapes, too:
  time     of a scrape, one after another on one connection, as Prometheus does: at most 20 ms (median)
           with 1,000 ports
  cost     busy TSC cycles per frame of the polling core while nobody scrapes and while somebody does ten
           times a second, half a second each in turn: the median of the ratios is at most 1.02

Prints one JSON object a case and, last, 'N passed, N failed'; ends with 1 if any failed. Everything it
starts or makes is gone when it ends.
"""
import contextlib
import http.client
import json
import os
import pathlib
import socket
import statistics
import time
from collections.abc import Iterator
from typing import Any

from .daemon import Daemon, directory, running
from .paths import RELEASE, WEIR
from .process import background, exit_on_term, program, run

POLLED, LOADED = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
SCRAPE_MAX = 0.020
RATIO_MAX = 1.02
HALF = 0.5                                      # seconds, of each half of a round
PER_SECOND = 10


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--weir", default=str(RELEASE / "weir"))
    parser.add_argument("--guest", default=str(RELEASE / "guest"))
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--busy", action="store_true",
                        help="others use this machine: the polling core runs before them (needs root)")
    options = parser.parse_args()
    os.environ["WEIR"], os.environ["GUEST"] = options.weir, options.guest
    Daemon.is_realtime = options.busy
    exit_on_term()
    results = []
    with weir(options.ports) as (daemon, address):
        results.append(report("time", *times(daemon, address, options.scrapes, options.ports)))
        with background(options.guest, "pair", "--a", daemon.socket(0), "--b", daemon.socket(1), "--cpu", LOADED,
                        "--quiet", nice=-20 if options.busy else 0):
            daemon.until_up(2)
            time.sleep(1)
            results.append(report("cost", *cost(daemon, address, options.rounds)))
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def report(name: str, ok: bool, figures: dict[str, Any]) -> bool:
    print(json.dumps({"case": name, "ok": ok, **figures}), flush=True)
    return ok


@contextlib.contextmanager
def weir(n_ports: int) -> Iterator[tuple[Daemon, tuple[str, int]]]:
    """A running weir with so many VMs, and the address of its metrics."""
    with directory() as path:
        run(WEIR, path, "topology", "--ports", n_ports, "--cores", POLLED)
        address = free_address()
        file = path / "weir.yaml"
        file.write_text(f'metrics: {{ listen: "{address[0]}:{address[1]}" }}\n' + file.read_text())
        with running(path) as daemon:
            yield daemon, address


def free_address() -> tuple[str, int]:
    """Of this host, where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return ("127.0.0.1", int(listener.getsockname()[1]))


class Scraper:
    """A client that scrapes again and again on one connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.connection = http.client.HTTPConnection(*address, timeout=60)

    def scrape(self) -> tuple[float, bytes]:
        """How long it took until all was there, and all of it."""
        begin = time.perf_counter()
        self.connection.request("GET", "/metrics")
        answer = self.connection.getresponse()
        text = answer.read()
        took = time.perf_counter() - begin
        if answer.status != 200:
            raise RuntimeError(text.decode())
        return took, text


def times(daemon: Daemon, address: tuple[str, int], n_scrapes: int, n_ports: int) -> tuple[bool, dict[str, Any]]:
    """How long scrapes take while nobody sends; and the daemon's CPU time for each, which other work hardly moves."""
    scraper = Scraper(address)
    _, text = scraper.scrape()
    before = cpu_ns(daemon)
    took = sorted(scraper.scrape()[0] for _ in range(n_scrapes))
    cpu_ms = (cpu_ns(daemon) - before) / 1e6 / n_scrapes
    middle = statistics.median(took)
    figures = {f"{name}_ms": round(1000 * seconds, 2) for name, seconds in
               [("min", took[0]), ("median", middle), ("p90", took[len(took) * 9 // 10]), ("max", took[-1])]}
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return middle <= SCRAPE_MAX, {"ports": n_ports, "series": series, "bytes": len(text), "scrapes": n_scrapes, **figures,
                                  "cpu_ms": round(cpu_ms, 2)}


def cpu_ns(daemon: Daemon) -> int:
    """CPU time of the thread that serves metrics so far."""
    tasks = pathlib.Path(f"/proc/{daemon.pid}/task")
    thread = next(task for task in tasks.iterdir() if (task / "comm").read_text().strip() == "metrics")
    return int((thread / "schedstat").read_text().split()[0])


def cost(daemon: Daemon, address: tuple[str, int], n_rounds: int) -> tuple[bool, dict[str, Any]]:
    """Cycles per frame without scrapes and with them, in turn: these machines change their pace every few seconds."""
    scraper = Scraper(address)
    ratios, rates, scraped, cycles = [], [], 0, []
    for number in range(n_rounds):
        found: dict[bool, tuple[float, float]] = {}
        # Now the one comes first, now the other.
        for scrapes in (number % 2 == 0, number % 2 != 0):
            begin, before = time.monotonic(), core(daemon)
            if scrapes:
                for turn in range(int(HALF * PER_SECOND)):
                    scraper.scrape()
                    scraped += 1
                    time.sleep(max(0, begin + (turn + 1) / PER_SECOND - time.monotonic()))
            else:
                time.sleep(HALF)
            passed, after = time.monotonic() - begin, core(daemon)
            n_frames = after["rx_frames"] - before["rx_frames"]
            if not n_frames:
                raise RuntimeError("no frame came")
            found[scrapes] = ((after["busy_cycles"] - before["busy_cycles"]) / n_frames, n_frames / passed)
        ratios.append(found[True][0] / found[False][0])
        rates.append(found[True][1] / found[False][1])
        cycles.append(found[False][0])
    middle = statistics.median(ratios)
    spread = [round(part, 4) for part in statistics.quantiles(ratios, n=4)]
    return middle <= RATIO_MAX, {"scrapes": scraped, "rounds": n_rounds, "cycles_per_frame": round(statistics.median(cycles), 1),
                                 "cycles_ratio": round(middle, 4), "cycles_ratio_quartiles": spread,
                                 "rate_ratio": round(statistics.median(rates), 4)}


def core(daemon: Daemon) -> dict[str, Any]:
    """What the only polling core has done."""
    cores: list[dict[str, Any]] = daemon.show("cores")
    return cores[0]
