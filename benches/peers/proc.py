"""Starting, pinning, prioritising and watching the processes of one measurement.

Everything that is started here is ended here, by its own process id.
"""
import ctypes
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A step of a measurement went wrong; the text says which."""


def _prepare(cpus, nice):
    """Runs in the child before exec: own session, CPU affinity, priority.

    With the kernel's autogroup scheduling, `nice` only counts inside one
    session, so the session's group gets the same value as the process.
    """
    def go():
        os.setsid()
        # A polling process must never outlive the harness.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.sched_setaffinity(0, cpus)
        if nice:
            try:
                with open("/proc/self/autogroup", "w") as f:
                    f.write(str(nice))
            except OSError:
                pass
            try:
                os.setpriority(os.PRIO_PROCESS, 0, nice)
            except OSError:
                pass
    return go


class Proc:
    """A child process whose output goes to a log file and to `self.text`."""

    started = []            # those not yet stopped

    def __init__(self, argv, log, cpus, nice=0, env=None, cwd=None):
        self.argv = argv
        self.text = ""
        self.log = open(log, "ab", buffering=0)
        self.log.write(("$ " + " ".join(argv) + "\n").encode())
        # A terminal as standard output keeps the child's stdio line buffered.
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=slave, stderr=slave, cwd=cwd,
            env=dict(os.environ, **(env or {})), preexec_fn=_prepare(cpus, nice))
        os.close(slave)
        fcntl.fcntl(self.master, fcntl.F_SETFL, os.O_NONBLOCK)
        self.pid = self.child.pid
        self.started.append(self)

    def alive(self):
        return self.child.poll() is None

    def pump(self, seconds=0.0):
        """Takes in what the child has printed, waiting at most `seconds`."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        if not data:
            if seconds:
                time.sleep(min(seconds, 0.02))
            return False
        self.log.write(data)
        self.text += data.decode("utf-8", "replace").replace("\r", "")
        return True

    def wait_for(self, pattern, seconds, start=0):
        """Waits until `pattern` is printed after offset `start`."""
        rx = re.compile(pattern)
        end = time.monotonic() + seconds
        while True:
            m = rx.search(self.text, start)
            if m:
                return m
            if not self.alive():
                while self.pump():
                    pass
                raise Failed("%s ended with %s: %s" % (
                    self.argv[0], self.child.returncode, self.text[-800:]))
            if time.monotonic() > end:
                raise Failed("%s: no %r within %g s: %s" % (
                    self.argv[0], pattern, seconds, self.text[-800:]))
            # The others' words too: a process whose terminal is full stands still.
            for other in self.started:
                other.pump()
            self.pump(0.1)

    def write(self, line):
        try:
            self.child.stdin.write((line + "\n").encode())
            self.child.stdin.flush()
        except OSError as e:
            raise Failed("%s: %s: %s" % (self.argv[0], e, self.text[-800:]))

    def send_signal(self, sig):
        if self.alive():
            os.kill(self.pid, sig)

    def stop(self, sig=signal.SIGTERM, seconds=5):
        end = time.monotonic() + seconds
        self.send_signal(signal.SIGCONT)
        self.send_signal(sig)
        while self.alive() and time.monotonic() < end:
            self.pump(0.05)
        if self.alive():
            # The child leads its own session and process group.
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.child.wait()
        while self.pump():
            pass
        try:
            self.child.stdin.close()
        except OSError:
            pass
        self.started.remove(self)
        os.close(self.master)
        self.log.close()


class Testpmd(Proc):
    """An interactive dpdk-testpmd."""

    PROMPT = r"testpmd> "

    def __init__(self, argv, log, cpus, nice=0):
        super().__init__(argv, log, cpus, nice)
        self.seen = 0

    def ready(self, seconds=20):
        self.wait_for(self.PROMPT, seconds)
        self.settle()

    def settle(self):
        while self.pump(0.002):
            pass
        self.seen = len(self.text)

    def ask(self, line, until=None, seconds=5):
        """Sends one command; returns what it printed up to `until`/the prompt."""
        self.settle()
        self.write(line)
        at = self.seen
        m = self.wait_for(until or self.PROMPT, seconds, at)
        self.settle()
        return self.text[at:self.seen] if m else ""

    def stop(self, sig=signal.SIGTERM, seconds=5):
        self.send_signal(signal.SIGCONT)
        if self.alive():
            try:
                self.write("quit")
            except Failed:
                pass
            end = time.monotonic() + 2
            while self.alive() and time.monotonic() < end:
                self.pump(0.05)
        super().stop(sig, seconds)


def run(argv, seconds=20, check=True):
    """A short helper command; its standard output."""
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=seconds, text=True)
    if check and r.returncode:
        raise Failed("%s: exit %d: %s" % (" ".join(argv), r.returncode,
                                          (r.stderr or r.stdout)[-600:]))
    return r.stdout


# ---- what the machine did meanwhile -------------------------------------

def sched_sample(pid):
    """{tid: (name, seconds on CPU, seconds runnable but waiting)}."""
    out = {}
    try:
        tids = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return out
    for tid in tids:
        base = "/proc/%d/task/%s/" % (pid, tid)
        try:
            with open(base + "schedstat") as f:
                ran, waited, _ = f.read().split()
            with open(base + "comm") as f:
                name = f.read().strip()
        except (OSError, ValueError):
            continue
        out[int(tid)] = (name, int(ran) / 1e9, int(waited) / 1e9)
    return out


def busiest(before, after):
    """(name, ran, waited) of the thread that ran the most between two samples."""
    best = ("-", 0.0, 0.0)
    for tid, (name, ran, waited) in after.items():
        _, r0, w0 = before.get(tid, (name, 0.0, 0.0))
        if ran - r0 > best[1]:
            best = (name, ran - r0, waited - w0)
    return best


def total_run(before, after):
    return sum(a[1] - before.get(t, ("", 0, 0))[1] for t, a in after.items())


def steal_seconds():
    """Per CPU: time the hypervisor gave to someone else."""
    out = {}
    with open("/proc/stat") as f:
        for line in f:
            m = re.match(r"cpu(\d+)\s+(.*)", line)
            if m:
                out[int(m.group(1))] = int(m.group(2).split()[7]) / TICK
    return out


def tsc_hz():
    """The TSC's rate as the kernel found it, or the CPU's nominal one."""
    try:
        with open("/proc/cpuinfo") as f:
            m = re.search(r"^cpu MHz\s*:\s*([\d.]+)", f.read(), re.M)
        if m:
            return float(m.group(1)) * 1e6
    except OSError:
        pass
    return 0.0
