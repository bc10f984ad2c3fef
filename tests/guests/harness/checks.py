"""What the checks of Linux guests share: commands in a guest, figures of pings, one JSON line a check."""
import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

from .paths import GUEST

# Checks of this program that have failed.
failed: list[str] = []


def guest(*words: str) -> str:
    """What the program `guest` says to these words."""
    done = subprocess.run([GUEST, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"guest {' '.join(words)}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return done.stdout


def inside(name: str, command: str, timeout: int = 60) -> str:
    """The output of a shell command in a guest."""
    return guest("exec", "--timeout", str(timeout), name, command)


def stop_guests(*names: str) -> None:
    """Ends these guests, whether they are there or not."""
    for name in names:
        subprocess.run([GUEST, "stop", name], capture_output=True)


def report(check: str, good: object, **figures: Any) -> None:
    """Prints a check's line; one that isn't good is noted in `failed`."""
    if not good:
        failed.append(check)
    print(json.dumps({"check": check, "ok": bool(good), **figures}), flush=True)


@contextlib.contextmanager
def checking(check: str) -> Iterator[None]:
    """A check that cannot be made has failed; those after it still run."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, AttributeError, OSError, subprocess.SubprocessError) as error:
        report(check, False, error=str(error))


def check_kernel_log(check: str, **figures: Any) -> None:
    """The kernel of guest A has complained of nothing."""
    with checking(check):
        kernel = inside("A", "dmesg | grep -E 'WARN|BUG|Oops|stall|NETDEV WATCHDOG' | head -5")
        report(check, not kernel, lines=kernel, **figures)


def matched(pattern: str, text: str) -> re.Match[str]:
    """Where `text` matches, as it must."""
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"no {pattern!r} in {text[-300:]!r}")
    return found


def pings(text: str) -> tuple[int, int, float | None]:
    """(sent, received, average round trip in ms) of the last lines of ping, busybox's or iputils'."""
    sent, received = map(int, matched(r"(\d+) packets transmitted, (\d+)(?: packets)? received", text).groups())
    average = re.search(r"= [\d.]+/([\d.]+)/", text)
    return sent, received, float(average.group(1)) if average else None


def longest_gap(text: str) -> int:
    """The most replies missing in a row."""
    seen = sorted({int(n) for n in re.findall(r"seq=(\d+)", text)})
    return max((b - a - 1 for a, b in zip(seen, seen[1:])), default=0)


class Pinging:
    """Pings from guest A in the background; what they came to is asked once, at the end."""

    def __init__(self, target: str, interval: float = 0.02) -> None:
        inside("A", f"ping -i {interval} -w 600 {target} >/tmp/during 2>&1 & echo $! >/tmp/during.pid")

    def n_replies(self) -> int:
        """Replies by now."""
        return int(inside("A", "grep -c seq= /tmp/during || true").strip())

    def end(self) -> str:
        """Ends it; all that ping has printed."""
        inside("A", "kill -INT $(cat /tmp/during.pid); sleep 0.5")
        return inside("A", "cat /tmp/during")
