"""limits - the daemon's limits and its idling in real time, under loads that don't wait.

    limits [--weir PROGRAM] [--guest PROGRAM] [--short] [--only TEXT] [--busy] [--tcp]

Each on a weir of its own in a private directory, polling on the first CPU; loads run on the last:
  rate       the software guest, then DPDK's testpmd, flood from a VM with a limit: what is taken of
             them is the limit to one per cent over five seconds, and none of it is dropped
  excess     UDP at ten times its limit costs the polling core at most two per cent of a CPU more
             than at its limit
  silent     sixteen guests that are connected and say nothing and, as root, an uplink on a veth: at most
             one per cent of a CPU
  wake       a core asleep answers the first ping, and loses none of 1,024 frames at once
  tcp        iperf3 between two Linux guests gets at least 98 per cent of what its VM's limit leaves to
             TCP; with --tcp alone, and GUEST_IMAGE, which names what mkguest made

--short measures for less long, and leaves half of testpmd's cases out: under a minute.

Prints one JSON object a case and, last, 'N passed, N failed'; ends with 1 if any failed. Needs
dpdk-testpmd, with --tcp QEMU; no hugepages. Everything it starts or makes is gone when it ends.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .daemon import Daemon, directory, running
from .paths import GUEST, RELEASE, ROOT, WEIR
from .process import Word, background, exit_on_term, program, run
from .spaces import wire

sys.path.insert(0, str(ROOT / "benches/peers"))
import generator                                # type: ignore[import]  # noqa: E402

POLLED, LOADED = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
SILENT = 16
Case = tuple[bool, dict[str, Any]]               # whether it passed, and its figures
results: list[bool] = []


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--weir", default=str(RELEASE / "weir"))
    parser.add_argument("--guest", default=str(RELEASE / "guest"))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds TEXT")
    parser.add_argument("--tcp", action="store_true", help="two Linux guests instead of everything else")
    parser.add_argument("--busy", action="store_true",
                        help="others use this machine: run before them (needs root)")
    options = parser.parse_args()
    os.environ["WEIR"], os.environ["GUEST"] = options.weir, options.guest
    options.nice = -20 if options.busy else 0
    Daemon.is_realtime = options.busy
    exit_on_term()
    for name, case in cases(options):
        if options.only in name:
            attempt(name, case)
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


def cases(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Case]]]:
    """All that are asked for, by name."""
    if options.tcp:
        yield "tcp", lambda: tcp(10 if options.short else 20)
        return
    rates = [("10 Mbit/s", "rate: 10mbit", 1500, 10e6, 0), ("1 Gbit/s", "rate: 1gbit", 1500, 1e9, 0),
             ("100 kpps", "packets: 100kpps", 64, 0, 100e3), ("1 Mpps", "packets: 1mpps", 64, 0, 1e6)]
    seconds = 2 if options.short else 5
    for load in ("guest", "testpmd"):
        for name, limit, size, bps, pps in rates[::2] if options.short and load == "testpmd" else rates:
            yield f"rate {name} {load}", partial(rate, options, load, limit, size, bps, pps, seconds)
    yield "excess", lambda: excess(options, 3 if options.short else 10)
    yield "silent", lambda: silent(options, 4 if options.short else 10)
    yield "wake", lambda: wake(options)


def attempt(name: str, case: Callable[[], Case]) -> None:
    """Runs a case and prints its line; one that can't be run has failed."""
    try:
        ok, figures = case()
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError, generator.Failed) as error:
        ok, figures = False, {"error": f"{type(error).__name__}: {error}"}
    results.append(bool(ok))
    print(json.dumps({"case": name, "ok": bool(ok), **figures}), flush=True)


# --- the cases ---------------------------------------------------------------------------------------

def rate(options: argparse.Namespace, load: str, limit: str, size: int, bps: float, pps: float, seconds: int) -> Case:
    """What is taken of a flood over a limit, of bits or packets a second."""
    with weir(["from-vm: { %s }" % limit, ""]) as daemon, flood(options, load, size, daemon):
        time.sleep(1)                           # what was saved up before is used up
        before = daemon.counted("vm0/net0")
        time.sleep(seconds)
        after = daemon.counted("vm0/net0")
    took = after["at"] - before["at"]
    got = {name: (after[name] - before[name]) / took for name in ("rx_frames", "rx_bytes", "dropped_frames")}
    error = got["rx_bytes"] * 8 / bps - 1 if bps else got["rx_frames"] / pps - 1
    ok = abs(error) <= 0.01 and after["dropped_frames"] == before["dropped_frames"]
    return ok, {"error_percent": round(100 * error, 3), "pps": round(got["rx_frames"]),
                "mbps": round(got["rx_bytes"] * 8 / 1e6, 2), "dropped": after["dropped_frames"] - before["dropped_frames"]}


def excess(options: argparse.Namespace, seconds: int) -> Case:
    """100 Mbit/s are 12,500 frames of 1,000 bytes a second."""
    used: dict[int, float] = {}
    for times in (1, 10):
        with weir(["from-vm: { rate: 100mbit }", ""]) as daemon, \
                pair(options, daemon, "--size", 1000, "--pps", 12500 * times):
            time.sleep(1)
            before = daemon.counted("vm0/net0")
            used[times] = daemon.cpu_used(seconds)
            after = daemon.counted("vm0/net0")
            took = after["at"] - before["at"]
            mbps = (after["rx_bytes"] - before["rx_bytes"]) * 8 / took / 1e6
            # At its limit a load that is itself held up now and again sends less.
            if not (99 if times > 1 else 80) <= mbps <= 101:
                raise RuntimeError(f"{mbps:.1f} Mbit/s at {times} times the limit of 100")
    return used[10] <= used[1] + 0.02, {f"cpu_percent_at_{n}_times": round(100 * cpu, 2) for n, cpu in used.items()}


def silent(options: argparse.Namespace, seconds: int) -> Case:
    """The core's CPU time while its guests say nothing."""
    is_root = os.geteuid() == 0
    with uplink() if is_root else contextlib.nullcontext() as space, weir([""] * SILENT, space) as daemon, \
            contextlib.ExitStack() as guests:
        for number in range(SILENT):
            guests.enter_context(echo(options, daemon, number))
        daemon.until_up(SILENT + is_root)
        used = daemon.cpu_used(seconds)
    return used <= 0.01, {"cpu_percent": round(100 * used, 3), "guests": SILENT, "uplinks": int(is_root)}


@contextlib.contextmanager
def uplink() -> Iterator[str]:
    """A network namespace with a device up0, for a weir."""
    space = f"weir-limits-{os.getpid()}"
    with wire(space, space + "-host"):
        yield space


def wake(options: argparse.Namespace) -> Case:
    """The first frames to a core that is asleep."""
    lost, pings = 0, 0
    with weir(["", ""]) as daemon:
        with echo(options, daemon, 0):
            daemon.until_up(1)
            for _ in range(5):
                daemon.until_asleep()
                done = guest(options, "--socket", daemon.socket(1), "--mode", "ping", "--count", 1, "--seconds", 5,
                             "--mac", "02:00:00:00:00:99", "--ip", "10.0.0.99", "--peer-ip", "10.0.0.10")
                pings += done.returncode == 0
        for _ in range(5):
            daemon.until_asleep()
            done = guest(options, "pair", "--a", daemon.socket(0), "--b", daemon.socket(1), "--verify",
                         "--count", 1024, "--seconds", 10, "--ring", 1024, "--size", 1500)
            lost += done.returncode != 0
    return pings == 5 and lost == 0, {"first_pings_answered": pings, "of": 5, "bursts_with_losses": lost}


def tcp(seconds: int) -> Case:
    """Of a frame of 1,514 bytes TCP carries 1,448, timestamps being on. 10 Mbit/s, since emulated guests do little more."""
    limit, best = 10e6, 1448 / 1514
    with weir(["from-vm: { rate: 10mbit }", ""]) as daemon:
        os.environ["GUEST_STATE"] = str(daemon.directory / "guests")
        os.mkdir(os.environ["GUEST_STATE"])
        try:
            for number, name in enumerate("AB"):
                linux("start", "--name", name, "--ip", f"10.0.0.{number + 1}/24", "--sock", daemon.socket(number))
            before, held_before = daemon.counted("vm0/net0"), daemon.show("limits")[0]["throttled_nanoseconds"]
            text = linux("exec", "A", f"iperf3 -J -t {seconds} -O 2 -c 10.0.0.2")
            after, held_after = daemon.counted("vm0/net0"), daemon.show("limits")[0]["throttled_nanoseconds"]
        finally:
            for name in "AB":
                with contextlib.suppress(RuntimeError):
                    linux("stop", name)
    end = json.loads(text[text.index("{"):])["end"]
    part = end["sum_received"]["bits_per_second"] / limit / best
    dropped = after["dropped_frames"] - before["dropped_frames"]
    # A guest that is not held back nearly all the time is itself what is slow.
    held = (held_after - held_before) / 1e9 / (after["at"] - before["at"])
    return part >= 0.98 and dropped == 0, {"percent_of_best": round(100 * part, 2), "dropped": dropped,
                                           "resent": end["sum_sent"].get("retransmits"),
                                           "held_back_percent": round(100 * held, 1)}


def linux(*words: Word) -> str:
    """What the program `guest`, for Linux guests, says to these words."""
    done = subprocess.run(list(map(str, [GUEST, *words])), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=240,
                          preexec_fn=lambda: os.nice(-20 if Daemon.is_realtime else 0))
    if done.returncode:
        raise RuntimeError(f"guest {' '.join(map(str, words))}: {done.stdout[-1000:]}")
    return done.stdout


# --- loads -------------------------------------------------------------------------------------------

@contextlib.contextmanager
def flood(options: argparse.Namespace, load: str, size: int, daemon: Daemon) -> Iterator[None]:
    """Frames of this size from vm0 to vm1, as many as the load can make."""
    kind = generator.GENERATORS[load]
    path = daemon.directory / "load"
    path.mkdir()
    generating = kind(generator.Load(size=size), [str(daemon.socket(0)), str(daemon.socket(1))], False, LOADED,
                      options.nice, str(path), huge=False)
    try:
        generating.ready()
        daemon.until_up(2)
        generating.start()
        yield
    finally:
        generating.stop()


@contextlib.contextmanager
def pair(options: argparse.Namespace, daemon: Daemon, *words: Word) -> Iterator[None]:
    """The software guest at vm0 and vm1, who sends as the words say."""
    with background(options.guest, "pair", "--a", daemon.socket(0), "--b", daemon.socket(1), "--cpu", LOADED, "--quiet",
                    *words, nice=options.nice):
        daemon.until_up(2)
        yield


@contextlib.contextmanager
def echo(options: argparse.Namespace, daemon: Daemon, number: int) -> Iterator[None]:
    """The software guest at port `number`, who answers."""
    mac = "02:00:00:00:00:0a" if number == 0 else f"02:00:00:00:01:{number:02x}"
    with background(options.guest, "--socket", daemon.socket(number), "--mode", "echo", "--mac", mac,
                    "--ip", f"10.0.0.{10 + number}", "--quiet", nice=options.nice):
        yield


def guest(options: argparse.Namespace, *words: Word) -> subprocess.CompletedProcess[str]:
    """The software guest to its end."""
    return subprocess.run(list(map(str, [options.guest, *words])), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True, timeout=60)


# --- the daemon --------------------------------------------------------------------------------------

@contextlib.contextmanager
def weir(limits: list[str], space: str | None = None) -> Iterator[Daemon]:
    """A running weir with a VM, vm0 and so on, for each of these limits; "": none. In a network namespace, with up0
    there as its uplink, if one is given."""
    with directory() as path:
        run(WEIR, path, "topology", "--ports", len(limits), "--cores", POLLED,
            *(["--uplink", "up0"] if space else []))
        file = path / "weir.yaml"
        text = file.read_text()
        for number, limit in enumerate(limits):
            if limit:
                text = text.replace(f"  vm{number}:\n", f"  vm{number}:\n    limit: {{ {limit} }}\n")
        file.write_text(text)
        with running(path, space) as daemon:
            yield daemon
