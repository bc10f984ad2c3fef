#!/usr/bin/env python3
"""Side-by-side forwarding rate of virtual switches between two vhost-user ports.

    ./compare.py --duts testpmd-io,ovs-normal,weir
    ./compare.py --duts testpmd-io,ovs-normal --rounds 5
    ./compare.py --command 'mine=./switch --vhost {sock0} --vhost {sock1}' \\
                 --duts testpmd-io,ovs-normal,mine

A round starts every device with a generator of its own, all frozen (SIGSTOP)
but the one that is measured, and then measures them in turn, window by window.
See README.md.
"""
import argparse
import collections
import json
import os
import platform
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time

import proc
from duts import BUILT_IN, make
from generator import GENERATORS, Load
from proc import Failed

Env = collections.namedtuple("Env", "socks dir cpu nice load")


class Pair:
    """One device and its generator, started; frozen except while measured."""

    def __init__(self, name, load, args, commands, top, tag):
        self.name, self.load, self.args = name, load, args
        self.dir = os.path.join(top, tag)
        os.mkdir(self.dir)
        env = Env([self.dir + "/p0.sock", self.dir + "/p1.sock"], self.dir,
                  args.dut_cpu, args.nice, load)
        self.out = {"dut": name, "case": load.label(), "windows": []}
        self.gen, self.dut = None, make(name, env, commands)
        try:
            t0 = time.monotonic()
            self.dut.start()
            self.gen = GENERATORS[args.generator](load, env.socks, not self.dut.serves, args.gen_cpu,
                                 args.nice, self.dir)
            self.gen.ready()
            self.dut.go()
            self.gen.start()
            self.out["start_s"] = round(time.monotonic() - t0, 1)
            time.sleep(args.warmup)
            self.spin = self.refusals()
            self.freeze()
        except BaseException:
            self.stop()
            raise

    def freeze(self):
        for p in [self.gen.p] + self.dut.procs:
            p.send_signal(signal.SIGSTOP)

    def thaw(self):
        for p in self.dut.procs + [self.gen.p]:
            p.send_signal(signal.SIGCONT)

    def refusals(self):
        """Frames per second that the generator can't place while the DUT is frozen.

        So much of what a window counts as refused is due to the times at
        which other processes kept the DUT off its CPU.
        """
        for p in self.dut.procs:
            p.send_signal(signal.SIGSTOP)
        t0 = time.monotonic()
        self.gen.begin()
        time.sleep(0.1)
        lost = self.gen.end()["not_taken"] / (time.monotonic() - t0)
        for p in self.dut.procs:
            p.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        return lost

    def window(self):
        """Thaws, measures one window, freezes."""
        args, gen, dut = self.args, self.gen, self.dut
        self.thaw()
        try:
            time.sleep(args.settle)
            dut.begin()
            gen.begin()
            t0, s0 = time.monotonic(), proc.steal_seconds()
            g0 = proc.sched_sample(gen.pid)
            d0 = {p: proc.sched_sample(p) for p in dut.pids()}
            time.sleep(args.seconds)
            d1 = {p: proc.sched_sample(p) for p in dut.pids()}
            g1 = proc.sched_sample(gen.pid)
            s1, t = proc.steal_seconds(), time.monotonic() - t0
            w = gen.end()
            w["seconds"] = time.monotonic() - t0
            w.update(dut.end())
        finally:
            self.freeze()
        gw = proc.busiest(g0, g1)[2]
        # Time that the polling thread waited for others than the DUT's own threads.
        ran = sum(proc.total_run(d0[p], d1[p]) for p in d0)
        most = max([proc.busiest(d0[p], d1[p]) for p in d0], key=lambda x: x[1],
                   default=("-", 0, 0))
        dw = max(0.0, most[2] - (ran - most[1]))
        steal = max(s1[c] - s0[c] for c in (args.dut_cpu, args.gen_cpu))
        w.update(steal=steal / t, gen_waited=gw / t, dut_waited=dw / t,
                 dut_cpu=ran / t)
        w["refused"] = max(0.0, w["not_taken"] - self.spin * dw / t * w["seconds"])
        if w.get("busy_packets"):
            w["busy_cpp"] = w["busy_cycles"] / w["busy_packets"]
        worst = max(steal, gw, 0 if dut.kernel_work else dw) / t
        w["disturbed"] = worst > args.disturbed
        # The rate while both were on their CPU: neither's rings hold more than
        # some tens of microseconds, so nothing flows while one of them is not.
        w["rate"] = w["pps"] / ((1 - gw / t) * (1 - (0 if dut.kernel_work else dw / t)))
        return w

    def stop(self):
        """Ends both; keeps what the log files have to tell."""
        try:
            if self.gen and self.gen.p.alive() and self.out["windows"]:
                self.thaw()
                self.out["totals"] = self.gen.halt()
            self.out["features"] = features(self.dir)
        finally:
            for what in (self.gen, self.dut):
                if what:
                    what.stop()
            if not self.args.keep:
                shutil.rmtree(self.dir, ignore_errors=True)


class Probe:
    """Tells whether the two CPUs share a cache just now (see probe.c)."""

    def __init__(self, args, top):
        self.cmd, self.far = None, args.far_ns
        self.want, self.patience = args.wait_for, args.patience
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.c")
        cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if cc:
            proc.run([cc, "-O2", "-pthread", "-o", top + "/probe", source])
            self.cmd = [top + "/probe", str(args.dut_cpu), str(args.gen_cpu)]

    def look(self):
        """(round trip in ns, GHz), or None."""
        if not self.cmd:
            return None
        trip, ghz = proc.run(self.cmd).split()
        return float(trip), float(ghz)

    def wait(self, now):
        """Waits for the state that --wait-for names, at most --patience seconds."""
        end = time.monotonic() + self.patience
        while self.want and now and time.monotonic() < end:
            if (now[0] > self.far) == (self.want == "far"):
                break
            time.sleep(0.2)
            now = self.look()
        return now

    def state(self, before, after):
        if not before or not after:
            return "any"
        a, b = before[0] > self.far, after[0] > self.far
        return "mixed" if a != b else "far" if a else "near"


def round_of(duts, load, args, commands, top, probe, n, serial):
    """One round of one case: starts all devices, then measures them in turn."""
    pairs, runs = [], []
    try:
        for i in range(len(duts)):
            name = duts[(i + n) % len(duts)]
            try:
                pairs.append(Pair(name, load, args, commands, top, "s%d-%d" % (serial, i)))
                runs.append(pairs[-1].out)
            except Failed as e:
                runs.append({"dut": name, "case": load.label(), "windows": [],
                             "failed": str(e)})
                say("%s: %s" % (name, e))
        for k in range(args.windows):
            before = probe.look()
            for pair in list(pairs):
                before = probe.wait(before)
                try:
                    w = pair.window()
                except Failed as e:
                    pair.out["failed"] = str(e)
                    pairs.remove(pair)
                    pair.stop()
                    say("%s: %s" % (pair.name, e))
                    continue
                after = probe.look()
                w.update(k=k, state=probe.state(before, after), before=before, after=after)
                before = after
                pair.out["windows"].append(w)
    finally:
        for pair in pairs:
            pair.stop()
    for r in runs:
        r["round"] = n
        say("round %d  %-26s %-15s %s" % (n + 1, r["case"], r["dut"], " ".join(
            "%.3g%s" % (w["rate"] / 1e6, {"near": "n", "far": "f", "mixed": "m"}.get(
                w["state"], "")) for w in r["windows"])))
    return runs


def say(text):
    print(text[-1500:], file=sys.stderr, flush=True)


def features(dir):
    """The virtio features that were negotiated, as the DUT's log tells them."""
    got = set()
    for name in os.listdir(dir):
        if name.endswith(".log") and name != "generator.log":
            with open(os.path.join(dir, name), errors="replace") as f:
                got.update(re.findall(r"negotiated Virtio features: (0x[0-9a-f]+)", f.read()))
    return sorted(got)


STATES = ("far", "near", "any", "mixed")


def summarise(runs, duts, base, hz):
    """Per case, CPU state and device: medians, spread, and ratio to the base.

    A ratio is that of the two medians of one round, in the same CPU state;
    windows that were disturbed or in which the state changed are left out.
    (Ratios window by window are noisier: within a state, what disturbs one
    window has no bearing on its neighbour.)
    """
    cases = []
    for label in dict.fromkeys(r["case"] for r in runs):
        here = [r for r in runs if r["case"] == label]
        every = [w["state"] for r in here for w in r["windows"]]
        for state in STATES[:3]:
            if state not in every:
                continue
            good = lambda w: w["state"] == state and not w["disturbed"]
            mid_of, best_of = {}, {}    # (device, round): median and best rate
            for r in here:
                rates = [w["rate"] for w in r["windows"] if good(w)]
                if rates:
                    mid_of[r["dut"], r["round"]] = statistics.median(rates)
                    best_of[r["dut"], r["round"]] = max(rates)
            rows = []
            for dut in duts:
                mine = [r for r in here if r["dut"] == dut]
                ws = [w for r in mine for w in r["windows"] if good(w)]
                row = {"dut": dut, "windows": len(ws),
                       "all": sum(len(r["windows"]) for r in mine),
                       "failed": [r["failed"] for r in mine if "failed" in r]}
                rows.append(row)
                if not ws:
                    continue
                against = lambda of: [v / of[base, n] for (d, n), v in of.items()
                                      if d == dut and of.get((base, n))]
                ratios, bests = against(mid_of), against(best_of)
                med = lambda k: statistics.median([w[k] for w in ws if k in w] or [0])
                pps = [w["rate"] for w in ws]
                mid = statistics.median(pps)
                share = lambda f: statistics.median(f(w) for w in ws)
                row.update(
                    mpps=mid / 1e6, mpps_min=min(pps) / 1e6, mpps_max=max(pps) / 1e6,
                    quartiles=[x / 1e6 for x in statistics.quantiles(pps, n=4)]
                    if len(pps) > 1 else None,
                    ratio=statistics.median(ratios) if ratios else None,
                    ratio_min=min(ratios) if ratios else None,
                    ratio_max=max(ratios) if ratios else None, ratios=len(ratios),
                    ratio_best=statistics.median(bests) if bests else None,
                    cpp=hz / mid if mid else None, busy_cpp=med("busy_cpp") or None,
                    raw_mpps=med("pps") / 1e6, dut_cpu=med("dut_cpu"), sent_mpps=med("sent_pps") / 1e6,
                    lost=share(lambda w: 1 - w["received"] / w["sent"] if w["sent"] else 0),
                    refused=share(lambda w: w["refused"] / (
                        (w["sent"] + w["refused"]) or 1)),
                    dry=share(lambda w: w["dry"]) if "dry" in ws[0] else None,
                    gen_busy=share(lambda w: w["gen_busy_cycles"] / (w["seconds"] * hz)),
                    dut_busy=share(lambda w: w.get("busy_cycles", 0) / (
                        w.get("own_seconds", w["seconds"]) * hz
                        * (1 - w["dut_waited"]))) or None)
                row["limit"] = limit(row, label)
            cases.append({"case": label, "state": state, "rows": rows})
    return cases


def limit(row, label):
    """Which side held the rate down, as far as that can be told."""
    if row["mpps"] < 0.001:
        return "nothing arrives"
    if row["dut_busy"] is not None:
        return "device" if row["dut_busy"] > 0.9 else "partly generator"
    if label.startswith("loop"):
        return "?"
    if row["dry"] is not None:
        return "device" if row["dry"] < 0.1 else "partly generator"
    return "device" if row["refused"] > 0.1 else "partly generator"


def table(cases):
    # What tells whether the DUT kept up: testpmd counts refused frames, the guest a dry ring.
    dry = any(r.get("dry") is not None for case in cases for r in case["rows"])
    input = "dry" if dry else "refused"
    head = ("device", "Mpps", "min..max", "ratio", "min..max", "best", "cyc/pkt", "busy c/p",
            input, "lost", "limit", "windows")
    f = lambda v, d=2: "-" if v is None else "%.*f" % (d, v)
    lines = []
    for case in cases:
        rows = [head]
        for r in case["rows"]:
            count = "%d/%d" % (r["windows"], r["all"])
            if "mpps" not in r:
                rows.append((r["dut"], "-") + ("",) * 9 + (count,))
                continue
            rows.append((r["dut"], f(r["mpps"]), f(r["mpps_min"]) + ".." + f(r["mpps_max"]),
                         f(r["ratio"]), f(r["ratio_min"]) + ".." + f(r["ratio_max"]),
                         f(r["ratio_best"]), f(r["cpp"], 0), f(r["busy_cpp"], 0),
                         f(100 * r[input], 0) + "%", f(100 * r["lost"], 1) + "%",
                         r["limit"], count))
        widths = [max(len(x[i]) for x in rows) for i in range(len(head))]
        lines.append("\n%s, CPUs %s" % (case["case"], case["state"]))
        for x in rows:
            lines.append("  " + "  ".join(
                v.ljust(n) if i in (0, 10) else v.rjust(n)
                for i, (v, n) in enumerate(zip(x, widths))).rstrip())
        for r in case["rows"]:
            for why in r["failed"][:1]:
                lines.append("  %s failed %d times: %s" % (
                    r["dut"], len(r["failed"]), why[-300:]))
    return "\n".join(lines)


def machine(hz):
    first = lambda text: (text.strip().splitlines() or ["?"])[0]
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    return {"cpu": cpu.group(1) if cpu else "?", "tsc_hz": hz, "kernel": platform.release(),
            "cpus": os.cpu_count(), "load": os.getloadavg(),
            "dpdk": first(proc.run(["sh", "-c", "dpkg-query -W -f '${Version}' dpdk || true"])),
            "ovs": first(proc.run(["sh", "-c", "ovs-vswitchd --version || true"], check=False))}


def hugepages(megabytes):
    """Makes sure that so much memory is free as 2 MiB pages; what to set back."""
    def free():
        with open("/proc/meminfo") as f:
            return int(re.search(r"HugePages_Free: *(\d+)", f.read()).group(1))
    need = megabytes // 2 - free()
    if need > 0:
        with open("/proc/sys/vm/nr_hugepages") as f:
            now = int(f.read())
        with open("/proc/sys/vm/nr_hugepages", "w") as f:
            f.write(str(now + need))
        if free() < megabytes // 2:
            raise Failed("no %d MiB of free 2 MiB huge pages" % megabytes)
        return now, now + need
    return None


def restore(pages):
    """Gives the huge pages back, unless someone else changed their number."""
    if pages:
        with open("/proc/sys/vm/nr_hugepages") as f:
            if int(f.read()) != pages[1]:
                return
        with open("/proc/sys/vm/nr_hugepages", "w") as f:
            f.write(str(pages[0]))


def parser(text):
    p = argparse.ArgumentParser(description=text)
    p.add_argument("--duts", default="testpmd-io,testpmd-mac,ovs-normal,ovs-ports,linux-bridge",
                   help="devices, comma separated: %s, or the name of a --command" % ", ".join(BUILT_IN))
    p.add_argument("--command", action="append", default=[], metavar="NAME=COMMAND LINE",
                   help="a device of your own, with {sock0} and {sock1}, listening on them")
    p.add_argument("--client-command", action="append", default=[], metavar="NAME=COMMAND LINE",
                   help="the same for one that connects to the sockets")
    p.add_argument("--ready", default=None, metavar="REGEX",
                   help="what a command prints when it is ready (else: its sockets exist)")
    p.add_argument("--stats", action="append", default=[], metavar="NAME=COMMAND LINE",
                   help="prints a command's busy TSC cycles and packets so far, two numbers")
    p.add_argument("--generator", default="testpmd", choices=sorted(GENERATORS),
                   help="what loads the devices: dpdk-testpmd (default), or the leaner software guest: "
                        "target/release/guest, or the program that GUEST names")
    p.add_argument("--base", default=None, help="device that ratios refer to (default: the first)")
    p.add_argument("--mode", default="flood", help="flood, flood2, loop; several with commas")
    p.add_argument("--size", default="64", help="frame sizes without FCS, comma separated")
    p.add_argument("--flows", default="1", help="numbers of flows, comma separated (1k, 1M)")
    p.add_argument("--vary", default="ip", choices=("ip", "mac"))
    p.add_argument("--ring", type=int, default=256)
    p.add_argument("--packed", default="0", help="packed ring: 0, 1 or 0,1")
    p.add_argument("--mrg", default="1", help="mergeable receive buffers: 0, 1 or 0,1")
    p.add_argument("--in-order", type=int, default=0)
    p.add_argument("--queues", type=int, default=1, help="queue pairs per port (loop only)")
    p.add_argument("--inflight", type=int, default=6, help="loop: bursts of 32 per direction")
    p.add_argument("--rounds", type=int, default=3, help="times that all is started afresh")
    p.add_argument("--windows", type=int, default=10, help="windows of each device per round")
    p.add_argument("--seconds", type=float, default=1.0, help="length of a window")
    p.add_argument("--settle", type=float, default=0.15, help="from thawing to the window's start")
    p.add_argument("--far-ns", type=float, default=200,
                   help="cache line round trip above which the CPUs count as far apart")
    p.add_argument("--warmup", type=float, default=1.0)
    p.add_argument("--dut-cpu", type=int, default=0)
    p.add_argument("--gen-cpu", type=int, default=1)
    p.add_argument("--nice", type=int, default=-20, help="priority of device and generator alike")
    p.add_argument("--disturbed", type=float, default=0.1,
                   help="share of a window taken from a polling thread that makes it count as bad")
    p.add_argument("--wait-for", choices=("near", "far"),
                   help="before each window wait for the CPUs to be in that state")
    p.add_argument("--patience", type=float, default=10, help="seconds to wait for it")
    p.add_argument("--json", default=None, help="write all windows there")
    p.add_argument("--keep", action="store_true", help="keep the logs")
    p.add_argument("--limit", type=float, default=3600, help="give up after so many seconds")
    return p


def commands_of(args):
    """{name: what CommandDut takes} from the command line."""
    commands = {}
    for given, serves in ((args.command, True), (args.client_command, False)):
        for text in given:
            name, _, line = text.partition("=")
            commands[name] = {"command": line, "serves": serves, "ready": args.ready}
    for text in args.stats:
        name, _, line = text.partition("=")
        if name not in commands:
            raise Failed("--stats for an unknown command " + name)
        commands[name]["stats"] = line
    return commands


def number(text):
    m = re.fullmatch(r"(\d+)([kM]?)", text.strip())
    if not m:
        raise Failed("not a number: " + text)
    return int(m.group(1)) * {"": 1, "k": 1000, "M": 1000000}[m.group(2)]


def main(args):
    duts = args.duts.split(",")
    base = args.base or duts[0]
    commands = commands_of(args)
    loads = []
    for mode in args.mode.split(","):
        for size in args.size.split(","):
            for flows in args.flows.split(",") if mode != "loop" else ["1"]:
                for packed in args.packed.split(","):
                    for mrg in args.mrg.split(","):
                        loads.append(Load(
                            mode, int(size), number(flows), args.vary, args.ring,
                            int(packed), int(mrg), args.in_order, args.queues, args.inflight))
    kind = GENERATORS[args.generator]
    for why in filter(None, map(kind.can, loads)):
        raise Failed(why)
    hz = proc.tsc_hz()
    memory, pages = len(duts) * (900 + max(map(kind.megabytes, loads))), None
    top = tempfile.mkdtemp(prefix="peers-")
    runs, started = [], time.monotonic()
    info = machine(hz)
    ended = ""
    try:
        probe = Probe(args, top)
        for n in range(args.rounds):
            for load in loads:
                if time.monotonic() - started > args.limit:
                    raise TimeoutError("time limit reached")
                got = hugepages(memory)     # others may have taken some meanwhile
                if got:
                    pages = (pages or got)[0], got[1]
                runs += round_of(duts, load, args, commands, top, probe, n, len(runs))
    except (KeyboardInterrupt, TimeoutError) as e:
        ended = str(e) or "interrupted"
    finally:
        if args.keep:
            print("logs: " + top, file=sys.stderr)
        else:
            shutil.rmtree(top, ignore_errors=True)
        restore(pages)
    cases = summarise(runs, duts, base, hz)
    print("%(cpu)s, %(cpus)s CPUs, TSC %%.0f MHz, kernel %(kernel)s, DPDK %(dpdk)s, %(ovs)s"
          % info % (hz / 1e6))
    print("%d rounds (fresh starts), %d windows of %g s in each, ratios to %s of the same round, "
          "generator %s%s" % (args.rounds, args.windows, args.seconds, base, args.generator,
                              "; " + ended if ended else ""))
    print(table(cases))
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"machine": info, "args": vars(args), "cases": cases, "runs": runs,
                       "ended": ended}, f, indent=1)
    return 1 if ended or any(r.get("failed") for r in runs) else 0


def guarded(args, main):
    """Runs main() in its own session, at the priority of what it measures.

    Otherwise two polling threads of high priority would starve the harness
    itself, and its short-lived helpers, of the machine's two CPUs.
    """
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        code = 2
        try:
            proc._prepare(set(range(os.cpu_count())), args.nice)()
            code = main(args)
        except Failed as e:
            print("failed: %s" % e, file=sys.stderr)
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: os.kill(pid, signal.SIGTERM))
    while True:
        try:
            _, status = os.waitpid(pid, 0)
            return os.waitstatus_to_exitcode(status)
        except InterruptedError:
            continue


if __name__ == "__main__":
    sys.exit(guarded(parser(__doc__.split("\n\n")[0]).parse_args(), main))
