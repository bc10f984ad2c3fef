"""Devices under test (DUTs): what forwards between two vhost-user sockets.

The interface that a DUT has to offer:

    serves     True: it listens on the sockets and the generator connects to
               them. False: the generator listens and it connects.
    start()    starts it; returns when it can be connected (to), or raises.
    go()       called once the generator is connected and before it sends.
    pids()     its processes: their CPU time is sampled.
    begin()    called at the start of a measuring window.
    end()      called at its end: what the DUT itself counted, as a dictionary;
               "busy_cycles" and "busy_packets" are used where it has them.
    stop()     ends every process it started.
"""
import json
import os
import re
import shlex
import time

from proc import Failed, Proc, Testpmd, run

WEIR_TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/guests/weir")
OVS_DIRS = ("/usr/lib/openvswitch-switch-dpdk", "/usr/sbin", "/usr/local/sbin")
OVS_SCHEMA = ("/usr/share/openvswitch/vswitch.ovsschema",
              "/usr/local/share/openvswitch/vswitch.ovsschema")


class Dut:
    serves = True
    kernel_work = False     # part of its work is done by kernel threads

    def __init__(self, name, env):
        self.name, self.env = name, env     # env: socks, dir, cpu, nice, load
        self.procs = []

    @staticmethod
    def takes(load):
        """Whether this load is for such a device at all."""
        return True

    def log(self, what):
        return os.path.join(self.env.dir, what + ".log")

    def go(self):
        pass

    def pids(self):
        return [p.pid for p in self.procs]

    def begin(self):
        pass

    def end(self):
        return {}

    def stop(self):
        for p in reversed(self.procs):
            p.stop()
        self.procs = []


class TestpmdDut(Dut):
    """testpmd with two net_vhost ports: DPDK's vhost library and no switch."""

    def __init__(self, name, env, fwd="io", forward=True):
        super().__init__(name, env)
        self.fwd, self.forward = fwd, forward

    def vdevs(self):
        return ["net_vhost%d,iface=%s,queues=%d" % (i, s, self.env.load.queues)
                for i, s in enumerate(self.env.socks)]

    def wrap(self):
        return []

    def start(self):
        e = self.env
        argv = self.wrap() + [
            "dpdk-testpmd", "--iova-mode=va", "--no-pci", "--in-memory",
            "--no-telemetry", "--lcores", "0@%d,1@%d" % (e.cpu, e.cpu), "-m", "256"]
        for v in self.vdevs():
            argv += ["--vdev", v]
        argv += ["--", "-i", "--forward-mode=" + self.fwd, "--nb-cores=1",
                 "--record-core-cycles", "--total-num-mbufs=16384",
                 "--rxq=%d" % e.load.queues, "--txq=%d" % e.load.queues,
                 "--txpkts=%d" % min(e.load.size, 1500)]
        self.p = Testpmd(argv, self.log("dut"), {e.cpu}, e.nice)
        self.procs.append(self.p)
        self.p.ready()

    def go(self):
        if self.forward:
            self.p.ask("start")

    def begin(self):
        self.p.ask("clear fwd stats all")
        self.t0 = time.monotonic()

    def end(self):
        text = self.p.ask("show fwd stats all")
        seconds = time.monotonic() - self.t0
        m = re.search(r"total cycles=(\d+) / total \S+ packets=(\d+)", text)
        d = sum(int(x) for x in re.findall(r"TX-dropped: *(\d+)", text)[:-1])
        out = {"dropped": d, "own_seconds": seconds}
        if m:
            out.update(busy_cycles=int(m.group(1)), busy_packets=int(m.group(2)))
        return out


class BridgeDut(TestpmdDut):
    """The kernel's bridge between two taps, with testpmd carrying frames
    between each vhost-user port and its tap (it needs no kernel vhost)."""
    kernel_work = True

    @staticmethod
    def takes(load):
        return load.queues == 1 and load.size <= 1514       # what the taps do

    def wrap(self):
        return ["unshare", "-n"]

    def vdevs(self):
        a, b = self.env.socks
        return ["net_vhost0,iface=" + a, "net_tap0,iface=tapa",
                "net_tap1,iface=tapb", "net_vhost1,iface=" + b]

    def go(self):
        inside = ["nsenter", "-t", str(self.p.pid), "-n"]
        script = ("sysctl -qw net.ipv6.conf.all.disable_ipv6=1; "
                  "sysctl -qw net.ipv6.conf.default.disable_ipv6=1; "
                  "ip link add br0 type bridge stp_state 0 forward_delay 0; "
                  "ip link set tapa master br0; ip link set tapb master br0; "
                  "ip link set tapa up; ip link set tapb up; ip link set br0 up")
        run(inside + ["sh", "-c", script], check=False)
        self.text = run(inside + ["bridge", "link"])
        if self.text.count("master br0") != 2:
            raise Failed("bridge has not two ports: " + self.text)
        super().go()


class OvsDut(Dut):
    """Open vSwitch's userspace datapath with two dpdkvhostuserclient ports."""
    serves = False

    def __init__(self, name, env, flow="normal", config=()):
        super().__init__(name, env)
        self.flow, self.config = flow, config

    def _env(self):
        d = self.env.dir
        return {"OVS_RUNDIR": d, "OVS_LOGDIR": d, "OVS_DBDIR": d}

    def vsctl(self, *args):
        return run(["ovs-vsctl", "--db=unix:%s/db.sock" % self.env.dir,
                    "--timeout=20"] + list(args), 30)

    def appctl(self, *args):
        return run(["ovs-appctl", "-t", self.env.dir + "/vswitchd.ctl"] + list(args))

    def start(self):
        e = self.env
        schema = next((s for s in OVS_SCHEMA if os.path.exists(s)), None)
        daemon = next((n for d in OVS_DIRS for n in (
            d + "/ovs-vswitchd-dpdk", d + "/ovs-vswitchd") if os.path.exists(n)), None)
        if not schema or not daemon:
            raise Failed("no Open vSwitch with DPDK found")
        db = e.dir + "/conf.db"
        run(["ovsdb-tool", "create", db, schema])
        self.procs.append(Proc(
            ["ovsdb-server", db, "--remote=punix:%s/db.sock" % e.dir,
             "--unixctl=%s/ovsdb.ctl" % e.dir, "--no-chdir"],
            self.log("ovsdb"), {e.cpu}, e.nice, self._env()))
        _wait(lambda: os.path.exists(e.dir + "/db.sock"), 5, "ovsdb-server")
        self.vsctl("--no-wait", "init")
        mask = hex(1 << e.cpu)
        # The limit: else OVS takes more for a mempool while it may, the next device's included.
        other = ["dpdk-init=true", "dpdk-socket-mem=512", "dpdk-socket-limit=512",
                 "dpdk-lcore-mask=" + mask, "pmd-cpu-mask=" + mask,
                 "vhost-iommu-support=false",
                 "dpdk-extra=\"--iova-mode=va --no-pci --in-memory\""]
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".",
                   *["other_config:" + o for o in other + list(self.config)])
        self.procs.append(Proc(
            # A network namespace of its own: each bridge has a tap of its name.
            ["unshare", "-n", daemon, "unix:%s/db.sock" % e.dir, "--unixctl=%s/vswitchd.ctl" % e.dir,
             "--log-file=%s/ovs-vswitchd.log" % e.dir, "-vconsole:off", "--no-chdir"],
            self.log("vswitchd"), {e.cpu}, e.nice, self._env()))
        _wait(lambda: os.path.exists(e.dir + "/vswitchd.ctl"), 15, "ovs-vswitchd")
        if not self.procs[-1].alive():
            raise Failed("ovs-vswitchd ended")
        args = ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                "other_config:mac-aging-time=3600"]
        for i, s in enumerate(e.socks):
            args += ["--", "add-port", "br0", "vh%d" % i, "--", "set", "Interface",
                     "vh%d" % i, "type=dpdkvhostuserclient", "ofport_request=%d" % (i + 1),
                     "options:vhost-server-path=" + s]
            if e.load.size > 1514:
                args += ["mtu_request=9000"]
        self.vsctl(*args)
        _wait(lambda: os.path.exists(e.dir + "/br0.mgmt"), 10, "Open vSwitch's bridge")
        of = "unix:%s/br0.mgmt" % e.dir
        if self.flow == "ports":
            run(["ovs-ofctl", "del-flows", of])
            run(["ovs-ofctl", "add-flow", of, "in_port=1,actions=output:2"])
            run(["ovs-ofctl", "add-flow", of, "in_port=2,actions=output:1"])
        self.flows = run(["ovs-ofctl", "dump-flows", of])

    def go(self):
        def up():
            return all(self.vsctl("get", "Interface", "vh%d" % i, "link_state").strip()
                       == "up" for i in (0, 1))
        _wait(up, 15, "both vhost ports of Open vSwitch")

    def begin(self):
        self.drops = self._drops()
        self.appctl("dpif-netdev/pmd-stats-clear")
        self.t0 = time.monotonic()

    def _drops(self):
        """Both ports' drops. (The database's counters lag by seconds.)"""
        text = run(["ovs-ofctl", "dump-ports", "unix:%s/br0.mgmt" % self.env.dir])
        ports = re.split(r"\n\s+port\s+", text)[1:]
        return sum(int(n) for p in ports if not p.startswith("LOCAL")
                   for n in re.findall(r"drop=(\d+)", p))

    def end(self):
        text = self.appctl("dpif-netdev/pmd-stats-show")
        seconds = time.monotonic() - self.t0
        text = text[text.find("pmd thread"):]
        f = lambda w: int((re.search(r"^\s*" + w + r": *(\d+)", text, re.M) or [0, 0])[1])
        got = {"busy_cycles": f("processing cycles"), "busy_packets": f("packets received"),
               "idle_cycles": f("idle cycles"), "emc_hits": f("emc hits"),
               "smc_hits": f("smc hits"), "megaflow_hits": f("megaflow hits"),
               "simple_hits": f("simple match hits"), "own_seconds": seconds,
               "upcalls": f(r"miss with success upcall"),
               "dropped": self._drops() - self.drops}
        return got


class CommandDut(Dut):
    """Any command line with {sock0} and {sock1}; {dir} and {cpu} are there too.

    `stats` is a command line that prints two numbers: the TSC cycles that the
    device spent on received packets so far, and how many those were.
    """

    def __init__(self, name, env, command, serves=True, ready=None, stats=None, seconds=20):
        super().__init__(name, env)
        self.command, self.serves, self.stats = command, serves, stats
        self.pattern, self.seconds = ready, seconds

    def fill(self, text):
        e = self.env
        for key, value in (("sock0", e.socks[0]), ("sock1", e.socks[1]),
                           ("dir", e.dir), ("cpu", str(e.cpu))):
            text = text.replace("{%s}" % key, value)
        return shlex.split(text)

    def start(self):
        e = self.env
        p = Proc(self.fill(self.command), self.log("dut"), {e.cpu}, e.nice)
        self.procs.append(p)
        if self.pattern:
            p.wait_for(self.pattern, self.seconds)
        elif self.serves:
            _wait(lambda: p.pump() or not p.alive() or
                  all(os.path.exists(s) for s in e.socks), self.seconds, "sockets")
        self.check()

    def check(self):
        for p in self.procs:
            while p.pump():
                pass
            if not p.alive():
                raise Failed("%s ended: %s" % (self.name, p.text[-800:]))

    def sample(self):
        if not self.stats:
            return None
        self.t1 = time.monotonic()
        return [int(x) for x in run(self.fill(self.stats)).split()[:2]]

    def begin(self):
        self.first = self.sample()
        self.t0 = self.t1 if self.first else 0

    def end(self):
        self.check()
        last = self.sample()
        if not last:
            return {}
        return {"busy_cycles": last[0] - self.first[0], "own_seconds": self.t1 - self.t0,
                "busy_packets": last[1] - self.first[1]}


class WeirDut(CommandDut):
    """weir with two vhost-user ports on one network, both learning addresses.

    tests/guests/weir writes the topology and knows where the program is; the
    program itself is started here, so that it is pinned and measured like any other.
    """

    # They deny nothing of the load, and make each address and each port a flow of its own.
    RULES = "[ { deny: { to-vm: { proto: udp, port: 53, cidr: 192.0.2.0/24 } } } ]"

    def __init__(self, name, env, listens="weir", rules="[]"):
        weir = run([WEIR_TOOL, env.dir, "program"]).strip()
        super().__init__(name, env, weir + " run {dir}/weir.yaml", listens == "weir",
                         stats=weir + " --control {dir}/control.sock show cores --busy")
        self.listens, self.rules = listens, rules

    def start(self):
        e = self.env
        run([WEIR_TOOL, e.dir, "topology", "--listens", self.listens, "--idle", "poll",
             "--rules", self.rules,
             "--cores", str(e.cpu), "--queues", str(e.load.queues),
             "--mtu", "9000" if e.load.size > 1514 else "1500",
             # Twice what is used, as an operator would set it: above three quarters each port keeps to its quota.
             "--flows", str(max(1 << 20, 1 << (4 * e.load.flows - 1).bit_length() - 1))])
        super().start()
        _wait(lambda: os.path.exists(e.dir + "/control.sock"), self.seconds, "weir's control socket")

    def begin(self):
        self.drops = self._drops()
        super().begin()

    def end(self):
        return dict(super().end(), dropped=self._drops() - self.drops)

    def _drops(self):
        ports = run([WEIR_TOOL, self.env.dir, "show", "ports", "--json"])
        return sum(port["counters"]["dropped_frames"] for port in json.loads(ports))


def _wait(test, seconds, what):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise Failed("waited %g s for %s" % (seconds, what))
        time.sleep(0.05)


BUILT_IN = {
    "testpmd-io": (TestpmdDut, {}),
    "testpmd-mac": (TestpmdDut, {"fwd": "mac"}),
    "testpmd-macswap": (TestpmdDut, {"fwd": "macswap"}),
    "ovs-normal": (OvsDut, {"flow": "normal"}),
    "ovs-ports": (OvsDut, {"flow": "ports"}),
    "linux-bridge": (BridgeDut, {}),
    "weir": (WeirDut, {}),
    "weir-client": (WeirDut, {"listens": "guest"}),
    "weir-rules": (WeirDut, {"rules": WeirDut.RULES}),
    # Not switches: they show what the harness itself can do or must notice.
    "stopped": (TestpmdDut, {"forward": False}),
    "swallow": (TestpmdDut, {"fwd": "rxonly"}),
    "source": (TestpmdDut, {"fwd": "txonly"}),
}


def takes(name, load):
    kind, _ = BUILT_IN.get(name, (CommandDut, {}))
    return kind.takes(load)


def make(name, env, commands):
    if name in BUILT_IN:
        kind, args = BUILT_IN[name]
        return kind(name, env, **args)
    if name in commands:
        return CommandDut(name, env, **commands[name])
    raise Failed("unknown device %r; known: %s" % (
        name, ", ".join(list(BUILT_IN) + list(commands))))
