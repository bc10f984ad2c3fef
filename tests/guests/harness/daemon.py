"""A weir in a private directory, seen from outside: its life, its counters, its polling thread's CPU time."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from .paths import WEIR
from .process import Word, run, until


@contextlib.contextmanager
def directory(prefix: str = "weir-") -> Iterator[pathlib.Path]:
    """For a daemon's file, sockets and log; gone at the end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def running(path: pathlib.Path, space: str | None = None) -> Iterator["Daemon"]:
    """The daemon of `path`/weir.yaml, in a network namespace if one is given. It must end in order; after a failure it is
    killed."""
    def tell(*words: Word) -> None:
        inside = ["ip", "netns", "exec", space] if space else []
        run(*inside, WEIR, path, *words, timeout=60)

    try:
        tell("restart")
        yield Daemon(path)
        tell("stop")
    finally:
        if pid := pid_of(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def pid_of(path: pathlib.Path) -> int | None:
    """The process of the daemon in `path`, if that number is still its own."""
    try:
        pid = int((path / "weir.pid").read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(path).encode() in command else None


def log_of(path: pathlib.Path, chars_max: int) -> str:
    """The last words of the daemon in `path`."""
    log = path / "weir.log"
    return log.read_text(errors="replace")[-chars_max:] if log.exists() else ""


class Daemon:
    """A weir that runs in `directory`."""

    is_realtime = False

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.pid = int((directory / "weir.pid").read_text())
        if self.is_realtime:
            os.sched_setscheduler(int(self.poller().name), os.SCHED_FIFO, os.sched_param(10))

    def socket(self, number: int) -> pathlib.Path:
        """Of port vm`number`/net0."""
        return self.directory / f"p{number}.sock"

    def show(self, *words: str) -> Any:
        """What `weir show` says, from JSON."""
        answer = subprocess.run([WEIR, self.directory, "show", *words, "--json"], check=True,
                                stdout=subprocess.PIPE, text=True, timeout=20)
        return json.loads(answer.stdout)

    def counted(self, port: str) -> dict[str, Any]:
        """The port's counters, and when they were read by the daemon's own clock: asking takes a while."""
        shown = self.show("port", port)
        return {**shown["counters"], "at": shown["at_nanoseconds"] / 1e9}

    def until_up(self, number: int) -> None:
        """Waits until so many ports are up."""
        until(f"{number} ports are up",
              lambda: bool(sum(port["state"] == "up" for port in self.show("ports")) >= number), 30)

    def until_asleep(self) -> None:
        """Waits until the polling core has not been on its CPU for a while."""
        def is_asleep() -> bool:
            before = self.cpu_ns()
            time.sleep(0.1)
            return self.cpu_ns() == before
        until("the core sleeps", is_asleep, 30)

    def cpu_used(self, seconds: float) -> float:
        """The part of a CPU that the polling thread takes over so long, by the kernel's account."""
        begin, before = time.monotonic(), self.cpu_ns()
        time.sleep(seconds)
        return (self.cpu_ns() - before) / 1e9 / (time.monotonic() - begin)

    def cpu_ns(self) -> int:
        """CPU time of the polling thread so far."""
        return int((self.poller() / "schedstat").read_text().split()[0])

    def poller(self) -> pathlib.Path:
        """The polling thread's folder in /proc."""
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("poll-"):
                return task
        raise RuntimeError("there is no polling thread")
