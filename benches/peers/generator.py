"""The load: one process on one core that is both source and sink.

It is the guest side of the device under test (DUT): an independent vhost-user
front end on two sockets, port A (socket 0) and B (socket 1). Either is behind the
same interface:

Testpmd     dpdk-testpmd with net_virtio_user: all loads.
Guest       the software guest of tests/guest, whose rings are without bookkeeping:
            flood and flood2 over split rings.

flood   open loop, one way. A pcap of distinct flows is replayed for ever into
        A, whether the DUT keeps up or not; what B receives is counted and
        freed. The DUT's input ring stays full, so what arrives is what the DUT
        can do. Frames that did not fit into the ring are counted: none of them
        means that the generator, and not the DUT, was the limit.
flood2  the same from A to B and from B to A at once.
loop    closed loop, both ways. A fixed number of frames circulates
        A -> DUT -> B -> generator -> A, and as many the other way. It is the
        least work for the generator (no copy, no allocation), but each side
        waits for the other, so it says less about the DUT alone.
"""
import json
import os
import re
import struct
import time

import proc
from proc import Failed, Proc

MAC = ("02:00:00:00:00:0a", "02:00:00:00:00:0b")
GEN = "dpdk-testpmd"
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def _mac(text):
    return bytes(int(x, 16) for x in text.split(":"))


def write_pcap(path, sizes, flows, vary="ip", reverse=False, queue=0):
    """`flows` UDP frames (sizes without FCS, taken in turn), each its own flow, shuffled.

    vary="ip": source address and source port differ. vary="mac": the source
    MAC differs as well, so a learning switch must hold that many addresses.
    Frames of different queues are different flows. A payload starts at another
    place of a pattern in each frame, so that bytes of two frames can't be mixed up.
    """
    src, dst = (MAC[1], MAC[0]) if reverse else MAC
    src, dst = _mac(src), _mac(dst)
    dst_ip = bytes([198, 18, 0, 1])
    pattern = bytes(n * n // 251 & 255 for n in range(max(sizes) + 4096))
    headers = {}
    for size in sizes:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, size - 14, 0, 0, 64, 17, 0)
        headers[size] = ip, sum(struct.unpack("!6H", ip)) + sum(struct.unpack("!2H", dst_ip))
    order = 1
    if flows > 2:                       # a step that visits every flow once
        order = int(flows * 0.618) | 1
        while _gcd(order, flows) != 1:
            order += 2
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    with open(path, "wb") as f:
        k = 0
        for n in range(flows):
            k = (k + order) % flows
            size = sizes[n % len(sizes)]
            base, fixed = headers[size]
            ip = 0x0A000000 | queue << 20 | k
            csum = fixed + (ip >> 16) + (ip & 0xFFFF)
            csum = (csum & 0xFFFF) + (csum >> 16)
            csum = ~((csum & 0xFFFF) + (csum >> 16)) & 0xFFFF
            mac = src if vary == "ip" else b"\x06\x00" + struct.pack("!I", k)
            out.append(b"".join((
                struct.pack("<IIII", 0, 0, size, size), dst, mac, b"\x08\x00", base[:10],
                struct.pack("!HI", csum, ip), dst_ip,
                struct.pack("!HHHH", 1024 + k % 60000, 9, size - 34, 0),
                pattern[k % 4096:k % 4096 + size - 42])))
            if len(out) >= 4096:
                f.write(b"".join(out))
                out = []
        f.write(b"".join(out))


def _gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def read_pcap(path):
    """The frames of a pcap file."""
    with open(path, "rb") as f:
        data = f.read()
    at, frames = 24, []
    while at + 16 <= len(data):
        n = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + n])
        at += 16 + n
    return frames


class Load:
    """What is offered to the DUT in one case of a comparison."""

    def __init__(self, mode="flood", size=64, flows=1, vary="ip", ring=256,
                 packed=0, mrg=1, in_order=0, queues=1, inflight=6, once=False, sizes=()):
        if mode not in ("flood", "flood2", "loop"):
            raise Failed("unknown mode " + mode)
        if mode != "loop" and queues != 1 and not once:
            raise Failed("several queues only work with mode loop")
        if max((size, *sizes)) > 2048 and not once:
            raise Failed("frames over 2048 bytes can't be replayed without end")
        # Sizes to send in turn; `size` is the largest.
        self.sizes = tuple(sizes) or (size,)
        self.mode, self.size, self.flows, self.vary = mode, max(self.sizes), flows, vary
        self.ring, self.packed, self.mrg = ring, packed, mrg
        self.in_order, self.queues, self.inflight = in_order, queues, inflight
        self.once = once        # send each frame once, keep what arrives (check.py)

    def label(self):
        text = "%s %dB %s%s" % (self.mode, self.size, _count(self.flows),
                                " macs" if self.vary == "mac" else " flows")
        if self.mode == "loop":
            text = "loop %dB" % self.size
        for on, word in ((self.packed, "packed"), (not self.mrg, "no-mrg"),
                         (self.in_order, "in-order"),
                         (self.ring != 256, "ring%d" % self.ring),
                         (self.queues != 1, "%dq" % self.queues)):
            if on:
                text += " " + word
        return text


def _count(n):
    for unit, word in ((1000000, "M"), (1000, "k")):
        if n >= unit and n % unit == 0:
            return "%d%s" % (n // unit, word)
    return str(n)


class Testpmd:
    @staticmethod
    def can(load):
        """Why it can't make this load, or None."""
        return None

    @staticmethod
    def megabytes(load):
        """Huge pages for the frames of a load, over those that any testpmd takes."""
        return load.flows * (2 if load.mode == "flood2" else 1) * 2496 // (1 << 20)

    def __init__(self, load, socks, serve, cpu, nice, dir, huge=True):
        """`serve`: the generator listens on the sockets and the DUT connects."""
        self.load = load
        self.tx_port, self.rx_port = 0, 1
        self.dir, self.pcaps = dir, []
        vu = []
        for i, sock in enumerate(socks):
            vu.append("net_virtio_user%d,path=%s,mac=%s,queues=%d,queue_size=%d,"
                      "packed_vq=%d,mrg_rxbuf=%d,in_order=%d%s" % (
                          i, sock, MAC[i], load.queues, load.ring, load.packed,
                          load.mrg, load.in_order, ",server=1" if serve else ""))
        mbufs = 8192 + 4 * load.ring * load.queues
        vdevs = vu
        if load.mode != "loop":
            self.tx_port, self.rx_port = 1, 2
            queues = range(load.queues)
            near = "net_pcap0" + "".join(",rx_pcap=" + self._pcap(dir, q) for q in queues)
            far = "net_null0,no-rx=1,size=%d" % load.size
            if load.once:
                far = "net_pcap1" + "".join(",tx_pcap=%s/arrived%d.pcap" % (dir, q) for q in queues)
            else:
                near += ",infinite_rx=1"
            mbufs += load.flows * load.queues * (1 + load.size // 2048)
            if load.mode == "flood2":
                far = "net_pcap1,rx_pcap=%s,infinite_rx=1" % self._pcap(dir, 0, True)
                mbufs += load.flows
            vdevs = [near] + vu + [far]
        mem = 192 + mbufs * 2496 // (1 << 20)
        argv = [GEN, "--iova-mode=va", "--no-pci", "--no-telemetry",
                *(["--in-memory", "--single-file-segments"] if huge else ["--no-huge", "--no-shconf"]),
                "--lcores", "0@%d,1@%d" % (cpu, cpu), "-m", str(mem)]
        for v in vdevs:
            argv += ["--vdev", v]
        argv += ["--", "-i", "--forward-mode=io", "--nb-cores=1", "--mbcache=512",
                 "--record-core-cycles", "--no-flush-rx", "--txonly-multi-flow",
                 "--txpkts=%d" % min(load.size, 1500), "--total-num-mbufs=%d" % mbufs,
                 "--rxd=%d" % load.ring, "--txd=%d" % load.ring,
                 "--rxq=%d" % load.queues, "--txq=%d" % load.queues,
                 "--eth-peer=%d,%s" % (self.tx_port, MAC[1]),
                 "--eth-peer=%d,%s" % (self.rx_port, MAC[0])]
        self.p = proc.Testpmd(argv, os.path.join(dir, "generator.log"), {cpu}, nice)
        self.pid = self.p.pid

    def _pcap(self, dir, queue, reverse=False):
        l = self.load
        path = os.path.join(os.path.dirname(dir), "%s-%s-%d-%d%s.pcap" % (
            l.vary, "+".join(map(str, l.sizes)), l.flows, queue, "-back" if reverse else ""))
        if not os.path.exists(path):
            write_pcap(path, l.sizes, l.flows, l.vary, reverse, queue)
        self.pcaps.append(path)
        return path

    def ready(self):
        self.p.ready(60)

    def start(self):
        """Each port first sends a burst, from which a switch can learn."""
        n = self.load.inflight if self.load.mode == "loop" else 1
        self.p.ask("start tx_first %d" % n)

    def begin(self):
        self.p.ask("show port stats all")
        self.p.ask("clear fwd stats all")
        self.first = self._counts(self.p.ask("show port stats all"))

    def end(self):
        """Frames sent and received, and rates, since begin()."""
        ports = self.p.ask("show port stats all")
        fwd = self.p.ask("show fwd stats all")
        last = self._counts(ports)
        got = {}
        for port in (self.tx_port, self.rx_port):
            a, b = self.first[port], last[port]
            got[port] = {"rx": b["rx"] - a["rx"], "tx": b["tx"] - a["tx"],
                         "rx_pps": b["rx_pps"], "tx_pps": b["tx_pps"]}
        a, b = got[self.tx_port], got[self.rx_port]
        both = self.load.mode != "flood"
        drops = self._dropped(fwd)
        out = {"pps": b["rx_pps"] + (a["rx_pps"] if both else 0),
               "sent": a["tx"] + (b["tx"] if both else 0),
               "received": b["rx"] + (a["rx"] if both else 0),
               "sent_pps": a["tx_pps"] + (b["tx_pps"] if both else 0),
               "not_taken": drops.get(self.tx_port, 0) + (
                   drops.get(self.rx_port, 0) if both else 0)}
        m = re.search(r"total cycles=(\d+) / total \S+ packets=(\d+)", fwd)
        out["gen_busy_cycles"] = int(m.group(1)) if m else 0
        return out

    @staticmethod
    def _counts(text):
        out = {}
        for part in re.split(r"NIC statistics for port ", text)[1:]:
            port = int(re.match(r"\d+", part).group())
            f = lambda w: int(re.search(w + r": *(\d+)", part).group(1))
            out[port] = {"rx": f("RX-packets"), "tx": f("TX-packets"),
                         "rx_pps": f("Rx-pps"), "tx_pps": f("Tx-pps")}
        return out

    @staticmethod
    def _dropped(text):
        """Frames that did not fit into a port's transmit ring, by port."""
        out = {}
        for part in re.split(r"Forward statistics for port ", text)[1:]:
            m = re.match(r"(\d+) .*?TX-dropped: *(\d+)", part, re.S)
            if m:
                out[int(m.group(1))] = int(m.group(2))
        return out

    def halt(self):
        """Stops sending; the totals that the ports then show."""
        self.p.ask("stop", seconds=10)
        return self._counts(self.p.ask("show port stats all"))

    def sent_once(self):
        """What is sent in a load of `once`: all frames, sorted."""
        return sorted(f for path in self.pcaps for f in read_pcap(path))

    def arrived_once(self):
        """What has arrived of it, sorted, without the bursts from which a switch learns."""
        return sorted(f for q in range(self.load.queues)
                      for f in read_pcap("%s/arrived%d.pcap" % (self.dir, q)) if f[26:27] == b"\x0a")

    def stop(self):
        self.p.stop()


class Guest:
    """`guest pair`: it is asked for counts on its standard input and answers with a line of JSON.

    It offers a frame as soon as there is room and never has one refused. Instead it tells how
    often, when it offered frames, the DUT had taken all earlier ones already: "dry".
    """
    tx_port, rx_port = 0, 1

    @staticmethod
    def can(load):
        for on, what in ((load.mode == "loop", "--mode loop"), (load.packed, "--packed 1"),
                         (load.once, "frames that are sent once")):
            if on:
                return "the software guest can't do %s" % what

    @staticmethod
    def megabytes(load):
        return 0

    @staticmethod
    def program():
        path = os.environ.get("GUEST") or os.path.join(ROOT, "target/release/guest")
        if not os.access(path, os.X_OK):
            raise Failed("no %s: build it with  cargo build --release -p guest" % path)
        return path

    def __init__(self, load, socks, serve, cpu, nice, dir, huge=True):
        why = self.can(load)
        if why:
            raise Failed(why)
        self.load = load
        argv = [self.program(), "pair", "--commands", "--a", socks[0], "--b", socks[1],
                "--mac-a", MAC[0], "--mac-b", MAC[1], "--cpu", str(cpu), "--patience", "60",
                "--size", str(load.size), "--flows", str(load.flows), "--by", load.vary,
                "--queues", str(load.queues), "--ring", str(load.ring)]
        for on, option in ((serve, "--listen"), (load.mode == "flood2", "--both"),
                           (not load.mrg, "--no-merge"), (load.in_order, "--in-order")):
            if on:
                argv.append(option)
        self.p = Proc(argv, os.path.join(dir, "generator.log"), {cpu}, nice)
        self.pid = self.p.pid

    def ready(self):
        self._answer("ready", 0, 60)

    def start(self):
        """B first sends a broadcast, from which a switch can learn."""
        self._ask("start")

    def begin(self):
        self.first = self._ask("stats")

    def end(self):
        """Frames sent and received, and rates, since begin()."""
        last = self._ask("stats")
        d = {k: last[k] - v for k, v in self.first.items() if k != "at"}
        both = self.load.mode == "flood2"
        if d["reconnects"]:
            raise Failed("the device left the generator %d times" % d["reconnects"])
        seconds = d["ns"] / 1e9
        sent = d["a_sent"] + (d["b_sent"] if both else 0)
        received = d["b_received"] + (d["a_received"] if both else 0)
        return {"pps": received / seconds, "sent": sent, "received": received,
                "sent_pps": sent / seconds, "not_taken": 0, "gen_seconds": seconds,
                "gen_busy_cycles": d["busy_cycles"], "gen_busy_frames": d["busy_frames"],
                "dry": d["dry"] / d["offers"] if d["offers"] else 0}

    def halt(self):
        """Stops sending; the totals of the ports then."""
        self._ask("stop")
        time.sleep(0.1)
        last = self._ask("stats")
        return {i: {"tx": last[p + "_sent"], "rx": last[p + "_received"]}
                for i, p in enumerate("ab")}

    def _ask(self, command):
        while self.p.pump():
            pass
        at = len(self.p.text)
        self.p.write(command)
        return self._answer(command, at, 5)

    def _answer(self, to, at, seconds):
        return json.loads(self.p.wait_for(r'\{"at": "%s".*\}(?=\n)' % to, seconds, at).group())

    def stop(self):
        self.p.stop()


GENERATORS = {"testpmd": Testpmd, "guest": Guest}
