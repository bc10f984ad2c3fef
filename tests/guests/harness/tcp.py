"""tcp - what a limit on what a NIC gets leaves to TCP that comes off the wire, and the delay that it adds.

    tcp [--short] [--only TEXT] [--limits LIST] [--kinds LIST] [--runs N] [--seconds N] [--json FILE]
        [--weir PROGRAM] [--delay PROGRAM] [--busy]

As root, in network namespaces: a host on the wire, a switch whose uplink is a veth, and a host at a NIC with a limit.
One row for each kind of switch, limit (in Mbit/s), congestion control and round trip:
  weir        the NIC is a veth;  weir-tap: a tap;  weir-police: a veth, the limit has `queue: none`
  tbf, htb    the kernel's bridge, on whose port the qdisc stands: tbf with `latency 20ms`, htb as it is by default
  ovs-egress  Open vSwitch with DPDK: an egress policer with cbs=2048 on the port, as its manual has it
  ovs-ingress the same: ingress policing at the uplink, with the burst that its manual advises, 80 per cent of the rate
First a control run without the limit: where TCP doesn't reach 1.2 times the limit, the row is `not run`. Then iperf3 -O 3
-t 10 three times, of which the minimum counts, while pings go to the same NIC. Of weir is wanted: 95 per cent of limit x
MSS / frame (1,448 of the 1,514 bytes of a frame without FCS), and at most 50 ms more for 99 pings in a hundred than at
rest (the longest is shown too; it may be a CPU that was taken away). A round trip is what the namespaces take, 0.1 ms or so,
or 20 ms more, by a wire of that length (tests/veth/delay.rs). --ecn: both hosts ask for marks in place of drops.

And, as `both`: a host whose NIC is a tap with one queue sends by TCP to a NIC limited to 100 Mbit/s and to one without a
limit at once. The first is to get 80 per cent of its limit, the second 90 per cent of what it gets where the same load
(the limit's rate, kept by the sender itself) goes to the first without a limit. `alone`: what it gets without any other.

Prints one JSON object a row and, last, a table; ends with 1 if weir missed a target. --short: a few rows of weir's, short.
Real time: the machine must be quiet; --busy runs all of it before what others run here.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
from .checks import run, serving, spaces, until, veth, within
from .daemon import directory, running

SRC, MID, SW, DST, OTHER = (f"weir-tcp-{os.getpid()}-{role}" for role in ("src", "mid", "sw", "dst", "other"))
KINDS = ("weir", "weir-tap", "tbf", "htb", "ovs-egress", "ovs-ingress")
CONTROLS = ("cubic", "bbr")
SRC_IP, DST_IP, OTHER_IP = "10.0.0.1", "10.0.0.2", "10.0.0.3"
SRC_MAC, DST_MAC, OTHER_MAC = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
MSS_OF_FRAME = 1448 / 1514
QUEUE_S, ADDED_MS_MAX, PART_MIN = 0.02, 50, 0.95
POLLED = min(os.sched_getaffinity(0))
rows = []


def main():
    options = parse()
    os.environ["WEIR"] = options.weir
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))         # so that `finally` is reached
    if options.busy:
        os.nice(-20)
        autogroup(os.getpid())
    for kind in options.kinds:
        for far in options.rtts:
            for limit in options.limits:
                attempt(options, kind, far, limit)
    if options.both:
        attempt_both(options)
    table()
    missed = sum(row["verdict"] == "MISSED" for row in rows)
    not_run = [row for row in rows if row["verdict"].startswith("not run")]
    for row in not_run:
        print(f"**** {name(row)}: {row['verdict'].upper()} ****")
    print(f"{len(rows) - missed - len(not_run)} rows run, {missed} missed, {len(not_run)} not run")
    return 1 if missed or not rows else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=str(ROOT / "target/release/weir"))
    parser.add_argument("--delay", default=str(ROOT / "target/release/delay"))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--kinds", type=lambda text: text.split(","), help="of " + ",".join((*KINDS, "weir-police")))
    parser.add_argument("--limits", type=lambda text: [float(word) for word in text.split(",")], help="Mbit/s")
    parser.add_argument("--rtts", type=lambda text: [int(word) for word in text.split(",")], help="of 0,20 (ms)")
    parser.add_argument("--ccs", type=lambda text: text.split(","), help="of cubic,bbr")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--both", action=argparse.BooleanOptionalAction, help="the case of two receivers")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name (kind/Mbit/s/control/ms) holds TEXT")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="append the rows to this file too")
    parser.add_argument("--ecn", action="store_true")
    parser.add_argument("--busy", action="store_true", help="others use this machine: run before them")
    options = parser.parse_args()
    short = options.short
    options.kinds = options.kinds or (["weir"] if short else list(KINDS))
    options.limits = options.limits or ([100] if short else [2, 50, 100, 200, 1000])
    options.rtts = [0, 20] if options.rtts is None else options.rtts
    options.ccs = options.ccs or (["cubic"] if short else list(CONTROLS))
    options.runs = options.runs or (1 if short else 3)
    options.seconds = options.seconds or (4 if short else 10)
    options.omit = 1 if options.seconds < 10 else 3
    options.both = not short and not options.only if options.both is None else options.both
    return options


def autogroup(pid):
    """Linux shares CPUs between sessions first, where it has this."""
    with contextlib.suppress(OSError):
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-20")


# --- the rows ----------------------------------------------------------------------------------------

def name(row):
    return f"{row['kind']}/{row['limit_mbit']:g}/{row['cc']}/{row['far_ms']}"


def attempt(options, kind, far, limit):
    """The rows of one limit: a control run each without it, then those with it."""
    wanted = [row for row in ({"kind": kind, "limit_mbit": limit, "cc": cc, "far_ms": far} for cc in options.ccs)
              if options.only in name(row)]
    if not wanted:
        return
    try:
        lacks = missing(kind)
        if lacks:
            raise NotRun(lacks)
        with world(options, far):
            with switch(kind, None):
                for row in wanted:
                    row["rtt_ms"] = round(settle(), 3)
                    # A round trip of 20 ms takes a second or two until it is as fast as it can be.
                    row["control_mbit"] = round(transfer(row["cc"], 2 if far else 1, 3)["mbit"], 1)
            with switch(kind, limit) as daemon:
                for row in wanted:
                    if row["control_mbit"] < 1.2 * limit:
                        row["verdict"] = f"not run: {row['control_mbit']} Mbit/s without the limit"
                    else:
                        measure(options, row, daemon)
    except NotRun as why:
        wanted = [{"verdict": f"not run: {why}", **row} for row in wanted]
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        verdict = "MISSED" if kind.startswith("weir") else "not run: failed"
        wanted = [{"verdict": verdict, "error": f"{type(error).__name__}: {error}", **row} for row in wanted]
    for row in wanted:
        finish(options, row)


def measure(options, row, daemon):
    before, rest = daemon and daemon.counted("b/n"), settle()
    done = [transfer(row["cc"], options.omit, options.seconds, pings=True) for _ in range(options.runs)]
    best = row["limit_mbit"] * MSS_OF_FRAME
    added = sorted(max(0, time - rest) for run_ in done for time in run_["pings_ms"])
    at = lambda part: round(added[min(len(added) - 1, int(part * len(added)))], 1) if added else None      # noqa: E731
    row.update(mbit=[round(run_["mbit"], 2) for run_ in done], resent=[run_["resent"] for run_ in done],
               percent_of_best=round(100 * min(run_["mbit"] for run_ in done) / best, 1),
               added_ms={"p50": at(0.5), "p99": at(0.99), "max": at(1)}, pings=len(added),
               pings_lost=sum(run_["pings_lost"] for run_ in done))
    row["marked"] = sum(run_["marked"] for run_ in done)
    if daemon:
        after = daemon.counted("b/n")
        row["counters"] = {what: after[what] - before[what] for what in ("tx_frames", "missed", "limited")}
    if row["kind"].startswith("weir"):
        is_met = row["percent_of_best"] >= 100 * PART_MIN and added and at(0.99) <= ADDED_MS_MAX
        row["verdict"] = "ok" if is_met else "MISSED"
    else:
        row["verdict"] = "measured"


def attempt_both(options):
    row = {"kind": "weir-both", "limit_mbit": 100, "cc": "cubic", "far_ms": 0}
    try:
        with spaces(SRC, SW, DST, OTHER):
            both(options, row)
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        row.update(verdict="MISSED", error=f"{type(error).__name__}: {error}")
    finish(options, row)


def both(options, row):
    """One queue to two receivers. The kernel's account of CPU time is no use here: all share two CPUs, so what the second
    receiver would get beside the same load is measured."""
    for space, near in ((DST, "nic0"), (OTHER, "nic1")):
        veth((SW, near), (space, "eth0"))
    for host in ((SRC, SRC_MAC, SRC_IP), (DST, DST_MAC, DST_IP), (OTHER, OTHER_MAC, OTHER_IP)):
        tune(host[0])
        if host[0] != SRC:
            address(*host)

    def topology(limit):
        return [vm("a", SRC_MAC, "tap: { name: tap0 }", None), vm("b", DST_MAC, "afxdp: { device: nic0 }", limit),
                vm("c", OTHER_MAC, "afxdp: { device: nic1 }", None)]

    def rates(limit, *flows):
        with weir(topology(limit), tap=(SRC, SRC_MAC, SRC_IP)):
            for ip in (DST_IP, OTHER_IP):
                until("pings are answered", lambda: answered(ip), 20)
            return [[done["mbit"] for done in transfers(options, row["cc"], flows)] for _ in range(options.runs)]

    paced = f"-b {row['limit_mbit'] * MSS_OF_FRAME:.1f}M"
    alone = [rates_[0] for rates_ in rates(None, (OTHER, OTHER_IP, ""))]
    beside = [rates_[1] for rates_ in rates(None, (DST, DST_IP, paced), (OTHER, OTHER_IP, ""))]
    limited = rates(row["limit_mbit"], (DST, DST_IP, ""), (OTHER, OTHER_IP, ""))
    to_b = min(b for b, _ in limited) / row["limit_mbit"]
    to_c = min(c for _, c in limited) / statistics.median(beside)
    row.update(mbit=[round(b, 1) for b, _ in limited], other_mbit=[round(c, 1) for _, c in limited],
               other_beside_same_load_mbit=[round(c, 1) for c in beside], other_alone_mbit=[round(c, 1) for c in alone],
               percent_of_limit=round(100 * to_b, 1), other_percent=round(100 * to_c, 1),
               other_percent_of_alone=round(100 * min(c for _, c in limited) / statistics.median(alone), 1),
               control_mbit=round(min(alone), 1), verdict="ok" if to_b >= 0.8 and to_c >= 0.9 else "MISSED")


def finish(options, row):
    rows.append(row)
    text = json.dumps(row)
    print(text, flush=True)
    if options.json:
        with options.json.open("a") as file:
            file.write(text + "\n")


def table():
    head = ("kind", "Mbit/s", "control", "far ms", "unlimited", "got, least to most", "% of best", "added p50", "p99",
            "max ms", "pings lost", "resent", "")
    lines = [head]
    for row in rows:
        added, got = row.get("added_ms", {}), sorted(row.get("mbit", []))
        lines.append((row["kind"], f"{row['limit_mbit']:g}", row["cc"], row["far_ms"], row.get("control_mbit"),
                      f"{got[0]:g}..{got[-1]:g}" if got else None, row.get("percent_of_best", row.get("percent_of_limit")),
                      added.get("p50"), added.get("p99"), added.get("max"), row.get("pings_lost"),
                      max(row.get("resent", []), default=None), row["verdict"].split(":")[0]))
    lines = [["" if cell is None else str(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) if i in (0, 2, 12) else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


# --- TCP, and pings beside it ------------------------------------------------------------------------

def transfer(cc, omit, seconds, pings=False):
    """One connection from the wire to the NIC; Mbit/s as received."""
    before = marked()
    with serving(DST, 5201, "iperf3", "-s", "-1"):
        beside = pinging(omit + seconds) if pings else None
        text = within(SRC, "iperf3", "-J", "-C", cc, "-O", omit, "-t", seconds, "-c", DST_IP, timeout=omit + seconds + 60)
    end = json.loads(text)["end"]
    done = {"mbit": end["sum_received"]["bits_per_second"] / 1e6, "resent": end["sum_sent"].get("retransmits"),
            "marked": marked() - before}
    if beside:
        said = beside.communicate(timeout=60)[0]
        done["pings_ms"] = [float(time) for time in re.findall(r"time=([\d.]+) ms", said)]
        sent, came = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups())
        done["pings_lost"] = sent - came
    return done


def marked():
    """Frames with the mark "congestion experienced" that the host at the NIC has received."""
    names, values = (line.split() for line in within(DST, "cat", "/proc/net/netstat").splitlines()
                     if line.startswith("IpExt:"))
    return int(dict(zip(names, values))["InCEPkts"])


def pinging(seconds):
    """Ten a second of 58 bytes: a four-hundredth of 2 Mbit/s."""
    words = ["ip", "netns", "exec", SRC, "ping", "-i", "0.1", "-s", "16", "-c", str(10 * seconds), "-W", "5", DST_IP]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def transfers(options, cc, flows):
    """Connections at once, each (namespace, address, more options); what each got."""
    with contextlib.ExitStack() as servers:
        clients = []
        for number, (space, ip, more) in enumerate(flows):
            servers.enter_context(serving(space, 5201 + number, "iperf3", "-s", "-1", "-p", 5201 + number))
        for number, (_, ip, more) in enumerate(flows):
            words = ["iperf3", "-J", "-C", cc, "-O", options.omit, "-t", options.seconds, "-p", 5201 + number, "-c", ip]
            clients.append(subprocess.Popen(["ip", "netns", "exec", SRC, *map(str, words), *more.split()],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
        said = [client.communicate(timeout=options.seconds + 60)[0] for client in clients]
    return [{"mbit": json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e6} for text in said]


def answered(ip):
    with contextlib.suppress(RuntimeError):
        within(SRC, "ping", "-q", "-c", 1, "-W", 1, ip)
        return True
    return False


def settle():
    """Waits until the way is there and empty; its round trip at rest in ms, the median of some."""
    until("pings are answered", lambda: answered(DST_IP), 20)
    said = within(SRC, "ping", "-i", "0.02", "-s", 16, "-c", 20, DST_IP)
    return statistics.median(float(time) for time in re.findall(r"time=([\d.]+) ms", said))


# --- the world ---------------------------------------------------------------------------------------

@contextlib.contextmanager
def world(options, far):
    """A host on the wire and one at the NIC, devices up0 and nic0 of the switch's namespace between them, and a wire of
    so many ms there and back. A tap takes nic0's place by itself."""
    with spaces(SRC, MID, SW, DST), contextlib.ExitStack() as more:
        if far:
            veth((SRC, "eth0"), (MID, "near"))
            veth((MID, "far"), (SW, "up0"))
            # With a queue the kernel holds back who sends more than a veth's ring takes; without it would drop.
            run("ip", "netns", "exec", MID, "tc", "qdisc", "add", "dev", "far", "root", "pfifo", "limit", 100000)
            run("ip", "netns", "exec", MID, "tc", "qdisc", "add", "dev", "near", "root", "pfifo", "limit", 100000)
            more.enter_context(long_wire(options, far))
        else:
            veth((SRC, "eth0"), (SW, "up0"))
        veth((SW, "nic0"), (DST, "eth0"))
        for space in (SRC, DST):
            tune(space)
            within(space, "sysctl", "-qw", f"net.ipv4.tcp_ecn={1 if options.ecn else 2}")
        address(SRC, SRC_MAC, SRC_IP)
        address(DST, DST_MAC, DST_IP)
        yield


def tune(space):
    """Windows that fill 1.2 Gbit/s over 20 ms, and no run remembers another."""
    within(space, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_rmem=4096 131072 16777216",
           "net.ipv4.tcp_wmem=4096 65536 16777216")


def address(space, mac, ip):
    run("ip", "-n", space, "link", "set", "eth0", "address", mac)
    run("ip", "-n", space, "link", "set", "eth0", "up")
    run("ip", "-n", space, "addr", "replace", ip + "/24", "dev", "eth0")


@contextlib.contextmanager
def long_wire(options, far):
    words = ["ip", "netns", "exec", MID, options.delay, "near", "far", str(1000 * far // 2)]
    # It does little and must be on time.
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)))
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(words)}: ended with {process.wait()}")
        yield
        said = process.communicate("", timeout=20)[0]
        if process.returncode:
            raise RuntimeError(f"the long wire lost frames: {said}")
    finally:
        process.kill()
        process.wait()


# --- what is between them ----------------------------------------------------------------------------

class NotRun(Exception):
    """This can't be run here, and why."""


def missing(kind):
    if kind.startswith("ovs") and not pathlib.Path("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk").exists():
        return "no Open vSwitch with DPDK: apt-get install openvswitch-switch-dpdk"
    return None


def switch(kind, limit):
    """A switch of that kind between up0 and nic0, with a limit (Mbit/s) on what nic0 gets or None; the daemon if it is a
    weir."""
    if kind in ("weir", "weir-police"):
        return weir([vm("b", DST_MAC, "afxdp: { device: nic0 }", limit, kind == "weir-police")], "up0")
    if kind == "weir-tap":
        return with_tap(limit)
    if kind in ("tbf", "htb"):
        return bridge(kind, limit)
    return ovs(kind, limit)


def vm(vm_name, mac, backend, limit, polices=False):
    rate = f"    limit: {{ to-vm: {{ rate: {1000 * limit:.0f}kbit{', queue: none' if polices else ''} }} }}\n" if limit else ""
    return f'  {vm_name}:\n{rate}    nics: {{ n: {{ network: lan, mac: "{mac}", {backend} }} }}\n'


@contextlib.contextmanager
def weir(vms, uplink=None, tap=None):
    """A weir with these VMs. `tap`: namespace, MAC and IP address of who gets the device tap0 as its eth0."""
    with directory() as path:
        (path / "weir.yaml").write_text(
            f"cores: [{POLLED}]\ncontrol: {{ path: {path}/control.sock }}\n" +
            (f"uplinks: {{ wire: {{ device: {uplink} }} }}\nnetworks: {{ lan: {{ uplink: wire }} }}\n"
             if uplink else "networks: { lan: {} }\n") + "vms:\n" + "".join(vms))
        with running(path, SW) as daemon:
            if os.getpriority(os.PRIO_PROCESS, 0) < 0:
                autogroup(daemon.pid)
            if tap:
                # It is up once its host has set it up.
                until("there is a tap", lambda: "tap0" in run("ip", "-n", SW, "-br", "link"))
                run("ip", "-n", SW, "link", "set", "tap0", "netns", tap[0], "name", "eth0")
                address(*tap)
            daemon.until_up(len(vms) + (uplink is not None))
            yield daemon


@contextlib.contextmanager
def with_tap(limit):
    """The NIC's host has a tap as its eth0; the veth is out of the way meanwhile."""
    run("ip", "-n", DST, "link", "set", "eth0", "down", "name", "eth1")
    try:
        run("ip", "-n", DST, "addr", "flush", "dev", "eth1")
        with weir([vm("b", DST_MAC, "tap: { name: tap0 }", limit)], "up0", (DST, DST_MAC, DST_IP)) as daemon:
            yield daemon
    finally:
        until("the tap is gone", lambda: "eth0" not in run("ip", "-n", DST, "-br", "link"))
        run("ip", "-n", DST, "link", "set", "eth1", "name", "eth0")
        address(DST, DST_MAC, DST_IP)


@contextlib.contextmanager
def bridge(kind, limit):
    try:
        run("ip", "-n", SW, "link", "add", "br0", "type", "bridge", "stp_state", 0, "forward_delay", 0)
        for device in ("up0", "nic0"):
            run("ip", "-n", SW, "link", "set", device, "master", "br0")
        run("ip", "-n", SW, "link", "set", "br0", "up")
        if limit:
            tc = ["tc", "qdisc", "add", "dev", "nic0", "root"]
            # A burst of 4 ms, as weir has it, and of two frames at least.
            burst = max(3028, int(limit * 1e6 / 8 * 0.004))
            try:
                if kind == "tbf":
                    within(SW, *tc, "tbf", "rate", f"{1000 * limit:.0f}kbit", "burst", burst, "latency", f"{1000 * QUEUE_S:.0f}ms")
                else:
                    within(SW, *tc, "handle", "1:", "htb", "default", "1")
                    within(SW, "tc", "class", "add", "dev", "nic0", "parent", "1:", "classid", "1:1", "htb", "rate",
                           f"{1000 * limit:.0f}kbit")
            except RuntimeError as error:
                raise NotRun(f"this kernel has no {kind}: {error}") from error
        yield None
    finally:
        for words in (["qdisc", "del", "dev", "nic0", "root"],):
            subprocess.run(["ip", "netns", "exec", SW, "tc", *words], capture_output=True)
        subprocess.run(["ip", "-n", SW, "link", "del", "br0"], capture_output=True)


@contextlib.contextmanager
def ovs(kind, limit):
    with directory() as path:
        def tell(*words):
            return within(SW, HERE / "ovs", path, *words, timeout=60)

        # Its packet sockets see no partial checksums.
        for space in (SRC, MID, DST):
            for device in ("eth0", "far"):
                subprocess.run(["ip", "netns", "exec", space, "ethtool", "-K", device, "tx", "off"], capture_output=True)
        try:
            tell("start", "--ports", 0, "--here")
            if os.getpriority(os.PRIO_PROCESS, 0) < 0:
                autogroup((path / "vswitchd.pid").read_text().strip())
            for number, device in enumerate(("up0", "nic0")):
                tell("vsctl", "add-port", "br0", device + "p", "--", "set", "interface", device + "p", "type=dpdk",
                     f"options:dpdk-devargs=net_af_packet{number},iface={device}")
            if limit and kind == "ovs-egress":
                # In bytes of IP packets a second.
                rate = int(limit * 1e6 / 8 * 1500 / 1514)
                tell("vsctl", "set", "port", "nic0p", "qos=@q", "--", "--id=@q", "create", "qos", "type=egress-policer",
                     f"other-config:cir={rate}", "other-config:cbs=2048")
            elif limit:
                tell("vsctl", "set", "interface", "up0p", f"ingress_policing_rate={1000 * limit:.0f}",
                     f"ingress_policing_burst={800 * limit:.0f}")
            yield None
        finally:
            subprocess.run(["ip", "netns", "exec", SW, HERE / "ovs", path, "stop"], capture_output=True)
