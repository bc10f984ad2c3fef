"""interop - the daemon against virtio-net drivers that somebody else wrote (DPDK's), no guest needed.

    interop [--weir PROGRAM] [--only TEXT]

For both socket roles (weir listens, the guest listens), on a weir of its own in a private
directory:
  drivers    every split-ring driver path of ./virtio-user: exact counts of what arrives; where
             the guest listens also with kill -9 and restart of the daemon between transfers
  afterwards the daemon is the same process, holds no more file descriptors than before, starts
             on the socket files of a killed one, and removes its sockets when it ends
  contents   benches/peers/check.py: 64 to 9000 bytes over 1, 2 and 8 queue pairs arrive byte for
             byte, sent = received + dropped, SIGSTOP and SIGCONT

Prints one JSON object a case and, last, 'N passed, N failed'; ends with 1 if any failed. Needs
dpdk-testpmd; no hugepages. Everything it starts or makes is gone when it ends.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from .daemon import directory, log_of, pid_of
from .paths import ROOT, VIRTIO_USER, WEIR
from .process import Word, exit_on_term, lines, program, run

TIME_LIMIT = 900                                # of one program started here, in seconds
results: list[bool] = []


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--weir", help="the daemon's program (default: target/release/weir, else target/debug/weir)")
    parser.add_argument("--only", default="split", metavar="TEXT", help="driver paths whose name holds TEXT")
    parser.add_argument("--skip", default="", metavar="PART", help="drivers or contents")
    options = parser.parse_args()
    if options.weir:
        os.environ["WEIR"] = str(pathlib.Path(options.weir).resolve())
    exit_on_term()
    # Adaptive idling where weir listens, polling where it connects: each is tried in one role.
    for listens, idle in (("weir", "adaptive"), ("guest", "poll")):
        if options.skip != "drivers":
            drivers(listens, idle, options.only)
        if options.skip != "contents":
            contents("weir" if listens == "weir" else "weir-client")
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


def report(test: str, case: str, ok: object, **figures: Any) -> None:
    """Prints a case's line, and remembers whether it passed."""
    results.append(bool(ok))
    print(json.dumps({"test": test, "case": case, "ok": bool(ok), **figures}), flush=True)


def drivers(listens: str, idle: str, only: str) -> None:
    """DPDK's drivers on a daemon, and what is left of them there."""
    test = f"drivers, {listens} listens, {idle}"
    with daemon(test, listens, idle) as (path, weir):
        ends: list[Word] = ["--a", path / "p0.sock", "--b", path / "p1.sock"]
        if listens == "guest":
            ends += ["--server", "--restart", f"{WEIR} {path} crash && {WEIR} {path} restart"]
        before = state(path)
        for case in driver_paths(ends, only):
            report(test, case.pop("path"), case.pop("ok"), **case)
        if listens == "guest":
            return
        after = settled(path, before)
        report(test, "same process, no file descriptor more", after == before, before=before, after=after)
        weir("crash")
        weir("restart")
        for case in driver_paths(ends, "split mergeable"):
            report(test, "on the sockets of a killed daemon", case.pop("ok"), **case)


def driver_paths(ends: list[Word], only: str) -> Iterator[dict[str, Any]]:
    """What virtio-user says of each path whose name holds `only`."""
    return map(json.loads, lines(VIRTIO_USER, *ends, "--only", only, timeout=TIME_LIMIT))


def contents(device: str) -> None:
    """check.py's lines begin with ok or FAIL; what the program itself can't do has no line of its own."""
    text: list[str] = []
    with contextlib.suppress(RuntimeError):     # then the last line is missing
        text.extend(lines(ROOT / "benches/peers/check.py", "--no-huge", device, timeout=TIME_LIMIT))
    for line in text:
        verdict, _, case = line.partition(" ")
        if verdict in ("ok", "FAIL") and device in case:
            report("contents", case.strip(), verdict == "ok")
    if not re.fullmatch(r"\d+ passed, \d+ failed", text[-1] if text else ""):
        report("contents", f"{device}: check.py comes to its end", False, said=text[-5:])


@contextlib.contextmanager
def daemon(test: str, listens: str, idle: str) -> Iterator[tuple[pathlib.Path, Callable[..., str]]]:
    """A running weir: its directory, and a function that tells ./weir what to do with it."""
    with directory("weir-interop-") as path:
        def weir(*words: str) -> str:
            return run(WEIR, path, *words, timeout=60, output_max=2000)

        try:
            weir("start", "--listens", listens, "--queues", "8", "--mtu", "9000", "--idle", idle)
            yield path, weir
            weir("stop")
            left = [file.name for file in path.iterdir() if file.is_socket()]
            # Where the guest listens the socket files are the guest's, which was killed or has left them.
            left = [name for name in left if listens == "weir" or not name.startswith("p")]
            report(test, "ends when told to, its sockets are gone", not left, left=left)
        except (RuntimeError, subprocess.SubprocessError, OSError, ValueError) as error:
            report(test, "the daemon does what it is told", False, error=str(error), log=log_of(path, 2000))
        finally:
            if pid := pid_of(path):                 # after a failure, or Ctrl-C
                os.kill(pid, signal.SIGKILL)


def state(path: pathlib.Path) -> dict[str, int | None]:
    """What must not change while guests come and go."""
    pid = pid_of(path)
    return {"pid": pid, "fds": len(os.listdir(f"/proc/{pid}/fd")) if pid else None}


def settled(path: pathlib.Path, wanted: dict[str, int | None]) -> dict[str, int | None]:
    """The state, once it is as wanted, or after five seconds: a connection's end takes a moment."""
    deadline = time.monotonic() + 5
    while (now := state(path)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return now
