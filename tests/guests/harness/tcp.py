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
import json
import os
import pathlib
import statistics
import subprocess
from typing import Any

from .daemon import Daemon
from .hosts import (DST, DST_IP, DST_MAC, OTHER, OTHER_IP, OTHER_MAC, SRC, SRC_IP, SRC_MAC, SW, address, tune,
                    world)
from .paths import RELEASE
from .process import exit_on_term, program, until
from .spaces import spaces, veth
from .switches import KINDS, NotRun, autogroup, missing, switch, vm, weir
from .transfers import Flow, answered, settle, transfer, transfers

CONTROLS = ("cubic", "bbr")
MSS_OF_FRAME = 1448 / 1514
ADDED_MS_MAX, PART_MIN = 50, 0.95
Row = dict[str, Any]
rows: list[Row] = []


def main() -> int:
    options = parse()
    os.environ["WEIR"] = options.weir
    exit_on_term()
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


def parse() -> argparse.Namespace:
    parser = program(__doc__)
    parser.add_argument("--weir", default=str(RELEASE / "weir"))
    parser.add_argument("--delay", default=str(RELEASE / "delay"))
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


# --- the rows ----------------------------------------------------------------------------------------

def name(row: Row) -> str:
    """What --only looks at."""
    return f"{row['kind']}/{row['limit_mbit']:g}/{row['cc']}/{row['far_ms']}"


def attempt(options: argparse.Namespace, kind: str, far: int, limit: float) -> None:
    """The rows of one limit: a control run each without it, then those with it."""
    wanted: list[Row] = [row for row in ({"kind": kind, "limit_mbit": limit, "cc": cc, "far_ms": far} for cc in options.ccs)
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


def measure(options: argparse.Namespace, row: Row, daemon: Daemon | None) -> None:
    """Runs with the limit, of which the minimum counts."""
    before, rest = daemon.counted("b/n") if daemon else {}, settle()
    done = [transfer(row["cc"], options.omit, options.seconds, pings=True) for _ in range(options.runs)]
    best = row["limit_mbit"] * MSS_OF_FRAME
    added = sorted(max(0, time - rest) for run_ in done for time in run_["pings_ms"])

    def at(part: float) -> float | None:
        return round(added[min(len(added) - 1, int(part * len(added)))], 1) if added else None

    row.update(mbit=[round(run_["mbit"], 2) for run_ in done], resent=[run_["resent"] for run_ in done],
               percent_of_best=round(100 * min(run_["mbit"] for run_ in done) / best, 1),
               added_ms={"p50": at(0.5), "p99": at(0.99), "max": at(1)}, pings=len(added),
               pings_lost=sum(run_["pings_lost"] for run_ in done))
    row["marked"] = sum(run_["marked"] for run_ in done)
    if daemon:
        after = daemon.counted("b/n")
        row["counters"] = {what: after[what] - before[what] for what in ("tx_frames", "missed_frames", "missed_limit_frames")}
    if row["kind"].startswith("weir"):
        p99 = at(0.99)
        is_met = row["percent_of_best"] >= 100 * PART_MIN and p99 is not None and p99 <= ADDED_MS_MAX
        row["verdict"] = "ok" if is_met else "MISSED"
    else:
        row["verdict"] = "measured"


def attempt_both(options: argparse.Namespace) -> None:
    """The row of two receivers."""
    row: Row = {"kind": "weir-both", "limit_mbit": 100, "cc": "cubic", "far_ms": 0}
    try:
        with spaces(SRC, SW, DST, OTHER):
            both(options, row)
    except (RuntimeError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        row.update(verdict="MISSED", error=f"{type(error).__name__}: {error}")
    finish(options, row)


def both(options: argparse.Namespace, row: Row) -> None:
    """One queue to two receivers. The kernel's account of CPU time is no use here: all share two CPUs, so what the second
    receiver would get beside the same load is measured."""
    for space, near in ((DST, "nic0"), (OTHER, "nic1")):
        veth((SW, near), (space, "eth0"))
    for host in ((SRC, SRC_MAC, SRC_IP), (DST, DST_MAC, DST_IP), (OTHER, OTHER_MAC, OTHER_IP)):
        tune(host[0])
        if host[0] != SRC:
            address(*host)

    def topology(limit: float | None) -> list[str]:
        return [vm("a", SRC_MAC, "tap: { name: tap0 }", None), vm("b", DST_MAC, "afxdp: { device: nic0 }", limit),
                vm("c", OTHER_MAC, "afxdp: { device: nic1 }", None)]

    def rates(limit: float | None, *flows: Flow) -> list[list[float]]:
        with weir(topology(limit), tap=(SRC, SRC_MAC, SRC_IP)):
            for ip in (DST_IP, OTHER_IP):
                until("pings are answered", lambda: answered(ip), 20)
            return [transfers(options, row["cc"], flows) for _ in range(options.runs)]

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


def finish(options: argparse.Namespace, row: Row) -> None:
    """Prints a row, and keeps it for the table."""
    rows.append(row)
    text = json.dumps(row)
    print(text, flush=True)
    if options.json:
        with options.json.open("a") as file:
            file.write(text + "\n")


def table() -> None:
    """Prints all rows."""
    head = ("kind", "Mbit/s", "control", "far ms", "unlimited", "got, least to most", "% of best", "added p50", "p99",
            "max ms", "pings lost", "resent", "")
    cells: list[tuple[Any, ...]] = [head]
    for row in rows:
        added, got = row.get("added_ms", {}), sorted(row.get("mbit", []))
        cells.append((row["kind"], f"{row['limit_mbit']:g}", row["cc"], row["far_ms"], row.get("control_mbit"),
                      f"{got[0]:g}..{got[-1]:g}" if got else None, row.get("percent_of_best", row.get("percent_of_limit")),
                      added.get("p50"), added.get("p99"), added.get("max"), row.get("pings_lost"),
                      max(row.get("resent", []), default=None), row["verdict"].split(":")[0]))
    lines = [["" if cell is None else str(cell) for cell in line] for line in cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) if i in (0, 2, 12) else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())
