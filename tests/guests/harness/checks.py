"""What the checks share: commands in a guest, figures of pings, namespaces with a wire between them, one JSON line a check."""
import contextlib
import json
import pathlib
import re
import subprocess
import time

GUEST = str(pathlib.Path(__file__).resolve().parent.parent / "guest")
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
def spaces(*names):
    """Network namespaces of these names, whose devices have no IPv6 addresses. They and the devices in them are gone
    at the end. As root."""
    try:
        for name in names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            within(name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def within(space, *words, **options):
    """Runs a command in a network namespace to its end."""
    return run("ip", "netns", "exec", space, *words, **options)


def veth(a, b):
    """Two devices, (namespace, name) each, at the two ends of one wire; both up."""
    (space, device), (peer_space, peer) = a, b
    run("ip", "link", "add", device, "netns", space, "type", "veth", "peer", "name", peer, "netns", peer_space)
    for space, device in (a, b):
        run("ip", "-n", space, "link", "set", device, "up")


@contextlib.contextmanager
def wire(switch, host):
    """Two network namespaces of these names: in the first a device up0, in the second eth0 at its other end. As root."""
    with spaces(switch, host):
        veth((switch, "up0"), (host, "eth0"))
        yield


def listens(space, port):
    """Whether somebody in a network namespace listens on this TCP port; connections of before may be there too."""
    rows = [line.split() for line in within(space, "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@contextlib.contextmanager
def serving(space, port, *words):
    """A server in a network namespace that listens on this port."""
    server = subprocess.Popen(["ip", "netns", "exec", space, *map(str, words)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(f"{words[0]} listens", lambda: listens(space, port))
        yield
    finally:
        server.kill()
        server.wait()
