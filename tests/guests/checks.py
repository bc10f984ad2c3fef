"""What the checks share: commands in a guest, figures of pings, namespaces with a wire between them, one JSON line a check."""
import contextlib
import json
import pathlib
import re
import subprocess
import time

GUEST = str(pathlib.Path(__file__).resolve().parent / "guest")
failed = []


def guest(*words):
    done = subprocess.run([GUEST, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"guest {' '.join(words)}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return done.stdout


def inside(name, command, timeout=60):
    return guest("exec", "--timeout", str(timeout), name, command)


def report(check, good, **figures):
    if not good:
        failed.append(check)
    print(json.dumps({"check": check, "ok": bool(good), **figures}), flush=True)


@contextlib.contextmanager
def checking(check):
    """A check that cannot be made has failed; those after it still run."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, AttributeError, OSError, subprocess.SubprocessError) as error:
        report(check, False, error=str(error))


def pings(text):
    """(sent, received, average round trip in ms) of the last lines of ping, busybox's or iputils'."""
    sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+)(?: packets)? received", text).groups())
    average = re.search(r"= [\d.]+/([\d.]+)/", text)
    return sent, received, float(average.group(1)) if average else None


def longest_gap(text):
    """The most replies missing in a row."""
    seen = sorted({int(n) for n in re.findall(r"seq=(\d+)", text)})
    return max((b - a - 1 for a, b in zip(seen, seen[1:])), default=0)


def run(*words, timeout=120):
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout[-1000:]}")
    return done.stdout


def until(what, is_so, limit=60):
    deadline = time.monotonic() + limit
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so in {limit} s: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def wire(switch, host):
    """Two network namespaces of these names: in the first a device up0, in the second eth0 at its other end. As root."""
    try:
        for space in (switch, host):
            run("ip", "netns", "add", space)
        run("ip", "link", "add", "up0", "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", host)
        run("ip", "-n", switch, "link", "set", "up0", "up")
        run("ip", "-n", host, "link", "set", "eth0", "up")
        yield
    finally:
        for space in (switch, host):
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
