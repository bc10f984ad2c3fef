"""What the checks with Linux guests share: commands in a guest, figures of pings, one JSON line a check."""
import contextlib
import json
import pathlib
import re
import subprocess

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
    except (RuntimeError, ValueError, KeyError, AttributeError, subprocess.CalledProcessError) as error:
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
