#!/usr/bin/env python3
"""Checks the harness, and that a device forwards what it is given.

    ./check.py                          the harness's own frames, and testpmd
    ./check.py testpmd-io ovs-normal    these devices
    ./check.py --command 'mine=./switch --vhost {sock0} --vhost {sock1}' mine

For each device: (1) 200 different frames, sent once, all arrive unchanged and
once: small, large, of 15 sizes up to 9000 bytes, over 1, 2 and 8 queue pairs;
(2) under full load, what was sent is what arrived plus what the device says
it dropped; (3) while it is frozen nothing arrives, and afterwards frames
arrive again. Prints a line for each check and, last, 'N passed, N failed'.
"""
import shutil
import signal
import struct
import sys
import tempfile
import time

import compare
import proc
from duts import make, takes
from generator import GENERATORS, Load, read_pcap, write_pcap

# What must come through byte for byte. The sizes lie on both sides of the places where
# a device may change its ways: one cache line, a parsed header, one buffer, one page.
SIZES = (64, 65, 127, 128, 129, 256, 512, 1024, 1500, 1514, 2047, 2048, 4096, 6000, 9000)
# A frame takes up to five of testpmd's buffers; one ring has room for all that is sent,
# over whichever of its queues a switch sends it on.
CONTENTS = {
    "64 B": Load(flows=200, once=True),
    "1500 B": Load(flows=200, once=True, size=1500),
    "64 B, packed ring": Load(flows=200, once=True, packed=1),
    "64 to 9000 B": Load(flows=200, once=True, ring=1024, sizes=SIZES),
    "64 B, no mergeable buffers": Load(flows=200, once=True, mrg=0),
    "64 to 9000 B, 2 queue pairs": Load(flows=100, once=True, ring=1024, sizes=SIZES, queues=2),
    "64 to 9000 B, 8 queue pairs": Load(flows=25, once=True, ring=1024, sizes=SIZES, queues=8),
}

count = {True: 0, False: 0}


def expect(ok, what):
    count[bool(ok)] += 1
    print("%s %s" % ("ok  " if ok else "FAIL", what), flush=True)


def frames(top):
    path = top + "/f.pcap"
    for size in (64, 1500):
        for vary in ("ip", "mac"):
            write_pcap(path, [size], 1000, vary)
            got = read_pcap(path)
            sums = {sum(struct.unpack("!10H", f[14:34])) % 0xFFFF for f in got}
            expect({len(f) for f in got} == {size} and sums == {0},
                   "%d B, %s: sizes and IP checksums" % (size, vary))
            key = (lambda f: f[26:36]) if vary == "ip" else (lambda f: f[6:12])
            expect(len({key(f) for f in got}) == 1000, "%d B, %s: 1000 flows" % (size, vary))


class Both:
    """A device and a generator, connected."""

    def __init__(self, name, load, args, commands, top):
        self.dir = tempfile.mkdtemp(dir=top)
        env = compare.Env([self.dir + "/p0.sock", self.dir + "/p1.sock"], self.dir,
                          args.dut_cpu, args.nice, load)
        self.dut, self.gen = make(name, env, commands), None
        try:
            self.dut.start()
            self.gen = GENERATORS[args.generator](load, env.socks, not self.dut.serves, args.gen_cpu,
                                 args.nice, self.dir, not args.no_huge)
            self.gen.ready()
            self.dut.go()
            if load.queues > 1:
                time.sleep(2)       # a switch may take up further queues later than the port
            self.dut.begin()
            self.gen.start()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in (self.gen, self.dut):
            if p:
                p.stop()

    def freeze(self, sig):
        for p in self.dut.procs:
            p.send_signal(sig)


def device(name, args, commands, top):
    for what, load in CONTENTS.items():
        if not takes(name, load) or GENERATORS[args.generator].can(load):
            continue
        with Both(name, load, args, commands, top) as b:
            time.sleep(args.warmup + 0.5)
            b.gen.halt()
        # Only now: the generator's end has written out what it had still buffered.
        sent, arrived = b.gen.sent_once(), b.gen.arrived_once()
        if name in ("testpmd-mac", "testpmd-macswap"):      # these write the addresses
            sent, arrived = (sorted(f[12:] for f in x) for x in (sent, arrived))
        expect(sent == arrived, "%s: %d frames of %s arrive once and unchanged (%d came)" % (
            name, len(sent), what, len(arrived)))
    load = Load(flows=1000)
    with Both(name, load, args, commands, top) as b:
        time.sleep(1.5)
        total = b.gen.halt()
        own = b.dut.end()
        sent, got = total[b.gen.tx_port]["tx"], total[b.gen.rx_port]["rx"]
        room = 4 * load.ring + 256      # what rings and bursts may still hold
        if "dropped" in own:
            expect(0 <= sent - got - own["dropped"] <= room,
                   "%s: %d sent = %d received + %d dropped + at most %d on the way" % (
                       name, sent, got, own["dropped"], room))
        expect(0 < got <= sent, "%s: %d received of %d sent" % (name, got, sent))
    with Both(name, load, args, commands, top) as b:
        time.sleep(0.5)
        b.freeze(signal.SIGSTOP)
        time.sleep(0.2)
        b.gen.begin()
        time.sleep(0.3)
        expect(b.gen.end()["received"] == 0, name + ": frozen, nothing arrives")
        b.freeze(signal.SIGCONT)
        time.sleep(0.5)
        b.gen.begin()
        time.sleep(0.3)
        expect(b.gen.end()["received"] > 0, name + ": running again, frames arrive")


def main(args, names):
    commands = compare.commands_of(args)
    top = tempfile.mkdtemp(prefix="peers-")
    pages = None if args.no_huge else compare.hugepages(1000)
    try:
        frames(top)
        for name in names:
            try:
                device(name, args, commands, top)
            except proc.Failed as e:
                expect(False, "%s: %s" % (name, e))
    finally:
        compare.restore(pages)
        shutil.rmtree(top, ignore_errors=True)
    print("%d passed, %d failed" % (count[True], count[False]))
    return 1 if count[False] else 0


if __name__ == "__main__":
    parser = compare.parser("Checks the harness and devices.")
    parser.add_argument("--no-huge", action="store_true",
                        help="the generator's memory in ordinary pages: for devices that need no huge pages")
    parser.add_argument("names", nargs="*", default=["testpmd-io"])
    given = parser.parse_args()
    sys.exit(compare.guarded(given, lambda a: main(a, a.names)))
