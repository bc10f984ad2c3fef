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

from .checks import run, until

HERE = pathlib.Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def directory():
    """For a daemon's file, sockets and log; gone at the end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="weir-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def running(path, space=None):
    """The daemon of `path`/weir.yaml, in a network namespace if one is given. It must end in order; after a failure it is
    killed."""
    def tell(*words):
        inside = ["ip", "netns", "exec", space] if space else []
        run(*inside, HERE / "weir", path, *words, timeout=60)

    try:
        tell("restart")
        yield Daemon(path)
        tell("stop")
    finally:
        with contextlib.suppress(OSError, ValueError):
            pid = int((path / "weir.pid").read_text())
            if str(path).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


class Daemon:
    is_realtime = False

    def __init__(self, directory):
        self.directory = directory
        self.pid = int((directory / "weir.pid").read_text())
        if self.is_realtime:
            os.sched_setscheduler(int(self.poller().name), os.SCHED_FIFO, os.sched_param(10))

    def socket(self, number):
        return self.directory / f"p{number}.sock"

    def show(self, *words):
        answer = subprocess.run([HERE / "weir", self.directory, "show", *words, "--json"], check=True,
                                stdout=subprocess.PIPE, text=True, timeout=20)
        return json.loads(answer.stdout)

    def counted(self, port):
        """The port's counters, and when they were read by the daemon's own clock: asking takes a while."""
        port = self.show("port", port)
        return {**port["counters"], "at": port["at_ns"] / 1e9}

    def until_up(self, number):
        until(f"{number} ports are up",
              lambda: sum(port["state"] == "up" for port in self.show("ports")) >= number, 30)

    def until_asleep(self):
        """The polling core has not been on its CPU for a while."""
        def is_asleep():
            before = self.cpu_ns()
            time.sleep(0.1)
            return self.cpu_ns() == before
        until("the core sleeps", is_asleep, 30)

    def cpu_used(self, seconds):
        """The part of a CPU that the polling thread takes over so long, by the kernel's account."""
        begin, before = time.monotonic(), self.cpu_ns()
        time.sleep(seconds)
        return (self.cpu_ns() - before) / 1e9 / (time.monotonic() - begin)

    def cpu_ns(self):
        return int((self.poller() / "schedstat").read_text().split()[0])

    def poller(self):
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("poll-"):
                return task
        raise RuntimeError("there is no polling thread")
