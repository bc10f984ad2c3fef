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
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
TIME_LIMIT = 900                                # of one program started here, in seconds
results = []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", help="the daemon's program (default: target/release/weir, else target/debug/weir)")
    parser.add_argument("--only", default="split", metavar="TEXT", help="driver paths whose name holds TEXT")
    parser.add_argument("--skip", default="", metavar="PART", help="drivers or contents")
    options = parser.parse_args()
    if options.weir:
        os.environ["WEIR"] = str(pathlib.Path(options.weir).resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))         # so that `finally` is reached
    # Adaptive idling where weir listens, polling where it connects: each is tried in one role.
    for listens, idle in (("weir", "adaptive"), ("guest", "poll")):
        if options.skip != "drivers":
            drivers(listens, idle, options.only)
        if options.skip != "contents":
            contents("weir" if listens == "weir" else "weir-client")
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


def report(test, case, ok, **figures):
    results.append(bool(ok))
    print(json.dumps({"test": test, "case": case, "ok": bool(ok), **figures}), flush=True)


def drivers(listens, idle, only):
    test = f"drivers, {listens} listens, {idle}"
    with daemon(test, listens, idle) as (directory, weir):
        ends = ["--a", directory / "p0.sock", "--b", directory / "p1.sock"]
        if listens == "guest":
            ends += ["--server", "--restart", f"{HERE}/weir {directory} crash && {HERE}/weir {directory} restart"]
        before = state(directory)
        for path in driver_paths(ends, only):
            report(test, path.pop("path"), path.pop("ok"), **path)
        if listens == "guest":
            return
        after = settled(directory, before)
        report(test, "same process, no file descriptor more", after == before, before=before, after=after)
        weir("crash")
        weir("restart")
        for path in driver_paths(ends, "split mergeable"):
            report(test, "on the sockets of a killed daemon", path.pop("ok"), **path)


def driver_paths(ends, only):
    return (json.loads(line) for line in lines(HERE / "virtio-user", *ends, "--only", only))


def contents(device):
    """check.py's lines begin with ok or FAIL; what the program itself can't do has no line of its own."""
    text = []
    with contextlib.suppress(RuntimeError):     # then the last line is missing
        text.extend(lines(ROOT / "benches/peers/check.py", "--no-huge", device))
    for line in text:
        verdict, _, case = line.partition(" ")
        if verdict in ("ok", "FAIL") and device in case:
            report("contents", case.strip(), verdict == "ok")
    if not re.fullmatch(r"\d+ passed, \d+ failed", text[-1] if text else ""):
        report("contents", f"{device}: check.py comes to its end", False, said=text[-5:])


@contextlib.contextmanager
def daemon(test, listens, idle):
    """A running weir: its directory, and a function that tells ./weir what to do with it."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-interop-"))

    def weir(*words):
        done = subprocess.run([HERE / "weir", directory, *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"weir {' '.join(words)}: {done.stdout[-2000:]}")
        return done.stdout

    try:
        weir("start", "--listens", listens, "--queues", "8", "--mtu", "9000", "--idle", idle)
        yield directory, weir
        weir("stop")
        left = [path.name for path in directory.iterdir() if path.is_socket()]
        # Where the guest listens the socket files are the guest's, which was killed or has left them.
        left = [name for name in left if listens == "weir" or not name.startswith("p")]
        report(test, "ends when told to, its sockets are gone", not left, left=left)
    except (RuntimeError, subprocess.SubprocessError, OSError, ValueError) as error:
        report(test, "the daemon does what it is told", False, error=str(error), log=log_of(directory))
    finally:
        if pid := pid_of(directory):            # after a failure, or Ctrl-C
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


def log_of(directory):
    log = directory / "weir.log"
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""


def pid_of(directory):
    """The daemon's process, if that number is still ours."""
    try:
        pid = int((directory / "weir.pid").read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(directory).encode() in command else None


def state(directory):
    """What must not change while guests come and go."""
    pid = pid_of(directory)
    return {"pid": pid, "fds": len(os.listdir(f"/proc/{pid}/fd")) if pid else None}


def settled(directory, wanted):
    """The state, once it is as wanted, or after five seconds: a connection's end takes a moment."""
    deadline = time.monotonic() + 5
    while (now := state(directory)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def lines(*command):
    """A program's standard output, line by line as it comes. Its errors are shown as they are."""
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    alarm = threading.Timer(TIME_LIMIT, process.terminate)
    alarm.start()
    try:
        for line in process.stdout:
            if line.strip():
                yield line.strip()
        if process.wait() not in (0, 1):        # 1: it has said what failed
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    finally:
        alarm.cancel()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
