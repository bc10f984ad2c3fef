"""guest - start, command, migrate and stop small QEMU guests on vhost-user ports.

State (sockets, logs, one JSON file per guest) lives in the directory $GUEST_STATE:
    export GUEST_STATE=$(mktemp -d) GUEST_IMAGE=/path/given/to/mkguest

    guest start --name A --ip 10.0.0.1/24 --sock /tmp/x/p0.sock --server
    guest exec A 'ping -c3 10.0.0.2'
    guest migrate A --to /tmp/x/p2.sock
    guest stop A

--server: QEMU creates the socket and the switch connects (the switch can restart
          and QEMU keeps the guest running).
--client: the switch creates the socket and QEMU connects, again every second if
          the connection is lost.
"""
import argparse
import base64
import hashlib
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import time


class GuestError(Exception):
    pass


def state_dir():
    try:
        return pathlib.Path(os.environ["GUEST_STATE"])
    except KeyError:
        raise GuestError("set GUEST_STATE to a directory (mktemp -d) first") from None


def unix_connect(path, timeout):
    """Connect to a unix socket, waiting until somebody listens on it."""
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise GuestError(f"nothing listens on {path}") from None
            time.sleep(0.05)


class Lines:
    """A socket as lines of text, each read bounded in time."""

    def __init__(self, connection):
        self.connection = connection
        self.pending = b""

    def write(self, text):
        self.connection.sendall(text.encode() + b"\n")

    def read(self, timeout):
        deadline = time.monotonic() + timeout
        while b"\n" not in self.pending:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            data = self.connection.recv(65536)
            if not data:
                raise GuestError("connection closed")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode(errors="replace")


class Qmp:
    """QEMU's control socket."""

    def __init__(self, path, timeout=30):
        self.lines = Lines(unix_connect(path, timeout))
        self.lines.read(timeout)            # greeting
        self.command("qmp_capabilities")

    def command(self, name, timeout=30, **arguments):
        request = {"execute": name}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.lines.write(json.dumps(request))
        while True:
            reply = json.loads(self.lines.read(timeout))
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise GuestError(f"{name}: {reply['error']['desc']}")


def instance_dir(record):
    return state_dir() / f"{record['name']}.{record['generation']}"


TCG = "tcg,thread=multi"


def accelerator(image):
    """KVM where it runs the guest's own kernel, else emulation; remembered beside the image.

    That /dev/kvm opens proves little: inside a virtual machine KVM may be there and still
    run no ordinary kernel. So ask the kernel for its first words under KVM.
    """
    memory = pathlib.Path(image) / "accel"
    if memory.exists():
        return memory.read_text().strip()
    accel = TCG
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        probe = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-accel", "kvm", "-cpu", "max", "-machine", "q35", "-m", "128M", "-serial", "stdio",
             "-kernel", str(pathlib.Path(image) / "vmlinuz"), "-append", "console=ttyS0 panic=-1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        heard, deadline = b"", time.monotonic() + 15
        try:
            while b"Linux version" not in heard and time.monotonic() < deadline:
                if select.select([probe.stdout], [], [], 0.2)[0]:
                    words = os.read(probe.stdout.fileno(), 4096)
                    if not words:
                        break
                    heard += words
        finally:
            probe.kill()
            probe.wait()
        if b"Linux version" in heard:
            accel = "kvm"
    memory.write_text(accel + "\n")
    return accel


def qemu_command(record, incoming=None):
    """The QEMU command line of one guest instance. A migration's destination must
    have the same machine and devices as its source: only sockets may differ."""
    here = instance_dir(record)
    options = record["options"]
    image = pathlib.Path(options["image"])
    queues = options["queues"]
    # no_timer_check: on a busy host an emulated timer may tick too late for Linux's boot test
    append = ["console=ttyS0", "panic=-1", "quiet", "no_timer_check", "tsc=reliable",
              f"guest.name={record['name']}"]
    for key in ("ip", "ip6", "vlan", "mtu"):
        if options[key]:
            append.append(f"guest.{key}={options[key]}")
    append.append(f"guest.queues={queues}")
    backend = ",hugetlb=on,hugetlbsize=2M" if options["huge"] else ""
    role = "server=on" if options["server"] else "reconnect=1"
    device = [f"virtio-net-pci,id=net0,netdev=n0,mac={options['mac']}",
              f"packed={options['packed']}", f"mrg_rxbuf={options['mrg']}",
              f"rx_queue_size={options['ring']}", f"tx_queue_size={options['ring']}"]
    if queues > 1:
        device.append("mq=on")
    # QEMU 7.2.22 (Debian 12) without KVM crashes when a guest turns on MSI-X on a vhost
    # device ("virtio-pci: Fix the use of an uninitialized irqfd" is missing): use INTx.
    accel = options["accel"]
    msix = options["msix"] if options["msix"] != "auto" else "off" if "tcg" in accel else "on"
    device.append(f"vectors={2 * queues + 2 if msix == 'on' else 0}")
    if options["indirect"] == "off":
        device.append("indirect_desc=off")
    if options["tso"] == "off":
        device += [f"{side}_{what}=off" for side in ("host", "guest")
                   for what in ("tso4", "tso6", "ufo", "ecn")]
    if options["mtu"] and int(options["mtu"]) > 1500:
        device.append(f"host_mtu={options['mtu']}")
    if options["device"]:
        device.append(options["device"])
    command = ["nice", "-n", str(options["nice"]),
               "qemu-system-x86_64", "-name", record["name"], "-nodefaults", "-no-user-config",
               "-display", "none", "-no-reboot",
               "-accel", accel, "-cpu", options["cpu"], "-smp", str(options["cpus"]),
               "-m", options["mem"] + (f",slots={options['slots']},maxmem=8G" if options["slots"] else ""),
               "-object", f"memory-backend-memfd,id=mem,size={options['mem']},share=on{backend}",
               "-machine", "q35,memory-backend=mem",
               "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initramfs.img"),
               "-append", " ".join(append),
               "-serial", f"file:{here}/console.log",
               "-qmp", f"unix:{here}/qmp.sock,server=on,wait=off",
               "-device", "virtio-rng-pci",
               "-device", "virtio-serial-pci",
               "-chardev", f"socket,id=agent,path={here}/agent.sock,server=on,wait=off",
               "-device", "virtserialport,chardev=agent,name=agent",
               "-chardev", f"socket,id=c0,path={record['sock']},{role}",
               "-netdev", f"vhost-user,id=n0,chardev=c0,queues={queues}",
               "-device", ",".join(device)]
    if incoming:
        command += ["-incoming", incoming]
    return command


def launch(record, incoming=None):
    """Start QEMU for a record and note its pid. QEMU waits here for the switch."""
    here = instance_dir(record)
    here.mkdir(parents=True)
    command = qemu_command(record, incoming)
    (here / "command").write_text(" ".join(command) + "\n")
    with open(here / "qemu.log", "w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
    record["pid"] = process.pid
    return process


def save(record):
    path = state_dir() / f"{record['name']}.json"
    path.with_suffix(".tmp").write_text(json.dumps(record, indent=1))
    path.with_suffix(".tmp").rename(path)


def load(name):
    try:
        return json.loads((state_dir() / f"{name}.json").read_text())
    except FileNotFoundError:
        raise GuestError(f"no guest {name} in {state_dir()}") from None


def running(record):
    """True while the recorded pid is still our QEMU, not a later process with its number."""
    try:
        command = pathlib.Path(f"/proc/{record['pid']}/cmdline").read_bytes()
        state = pathlib.Path(f"/proc/{record['pid']}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return str(instance_dir(record)).encode() in command and state != "Z"


def run_in_guest(record, command, timeout):
    """Run a shell command in the guest: (status, output)."""
    lines = Lines(unix_connect(instance_dir(record) / "agent.sock", 10))
    ticket = f"{os.getpid()}.{time.monotonic_ns()}"
    lines.write(f"{ticket} {timeout} {base64.b64encode(command.encode()).decode()}")
    deadline = time.monotonic() + timeout + 10
    while True:
        try:
            fields = lines.read(max(0.01, deadline - time.monotonic())).split()
        except TimeoutError:
            raise GuestError(f"guest {record['name']} did not answer in {timeout + 10} s") from None
        if fields and fields[0] == ticket:          # else: left over from an earlier caller
            return int(fields[1]), base64.b64decode(fields[2] if len(fields) > 2 else "")


def logs(record):
    """The last words of QEMU and of the guest's console."""
    return "".join(path.read_text(errors="replace")[-1000:] for path in
                   (instance_dir(record) / "qemu.log", instance_dir(record) / "console.log") if path.exists())


def wait_ready(record, process, timeout):
    deadline = time.monotonic() + timeout
    console = instance_dir(record) / "console.log"
    while True:
        if process.poll() is not None:
            raise GuestError(f"QEMU ended ({process.returncode}): " + logs(record))
        if console.exists() and f"guest: ready {record['name']}" in console.read_text(errors="replace"):
            return
        if time.monotonic() > deadline:
            raise GuestError(f"guest {record['name']} not ready in {timeout} s; see {console}")
        time.sleep(0.1)


def start(arguments):
    if not arguments.mac:                           # the same name, the same address
        digest = hashlib.sha256(arguments.name.encode()).digest()
        arguments.mac = "02:" + ":".join(f"{byte:02x}" for byte in digest[:5])
    if not arguments.cpus:
        arguments.cpus = arguments.queues
    if arguments.accel == "auto":
        arguments.accel = accelerator(arguments.image)
    options = {k: v for k, v in vars(arguments).items() if k not in ("run", "name", "sock", "timeout")}
    record = {"name": arguments.name, "generation": 0, "sock": arguments.sock, "options": options}
    if (state_dir() / f"{arguments.name}.json").exists():
        raise GuestError(f"guest {arguments.name} exists already")
    process = launch(record)
    save(record)
    try:
        wait_ready(record, process, arguments.timeout)
    except GuestError:
        if process.poll() is None:
            process.kill()
        process.wait()
        (state_dir() / f"{arguments.name}.json").unlink()
        shutil.move(instance_dir(record), state_dir() / f"{arguments.name}.failed.{process.pid}")
        raise
    print(f"{arguments.name}: ready, pid {record['pid']}, mac {arguments.mac}")


def execute(arguments):
    status, output = run_in_guest(load(arguments.name), arguments.command, arguments.timeout)
    sys.stdout.buffer.write(output)
    return status


def end(record):
    """Let QEMU quit, then make sure of it."""
    if running(record):
        try:
            Qmp(instance_dir(record) / "qmp.sock", 2).command("quit", 5)
        except (GuestError, OSError, TimeoutError):
            pass
    deadline = time.monotonic() + 5
    while running(record):
        if time.monotonic() > deadline:
            os.kill(record["pid"], 9)
        time.sleep(0.05)


def stop(arguments):
    record = load(arguments.name)
    end(record)
    (state_dir() / f"{arguments.name}.json").unlink()


def migrate(arguments):
    """Move a guest to a second QEMU process on another vhost-user port."""
    source = load(arguments.name)
    target = dict(source, generation=source["generation"] + 1, sock=arguments.to,
                  options=dict(source["options"]))
    if arguments.server or arguments.client:
        target["options"]["server"] = arguments.server
    started = time.monotonic()
    address = f"unix:{state_dir()}/{source['name']}.migrate.{target['generation']}"
    if arguments.tcp:
        address = f"tcp:127.0.0.1:{arguments.tcp}"
    process = launch(target, incoming=address)
    # The destination's QMP answers only once its vhost-user port is connected.
    target_qmp = Qmp(instance_dir(target) / "qmp.sock", arguments.timeout)
    prepared = time.monotonic()
    qmp = Qmp(instance_dir(source) / "qmp.sock")
    qmp.command("migrate-set-parameters", downtime_limit=arguments.downtime,
                max_bandwidth=arguments.bandwidth)
    qmp.command("migrate", uri=address)
    deadline = time.monotonic() + arguments.timeout
    while True:
        info = qmp.command("query-migrate")
        if info.get("status") in ("completed", "failed", "cancelled"):
            break
        if time.monotonic() > deadline:
            qmp.command("migrate_cancel")
            info["status"] = "timeout"
            break
        time.sleep(0.05)
    if info["status"] != "completed":
        process.kill()
        raise GuestError(f"migration {info['status']}: {info.get('error-desc', '')}"
                         + logs(target))
    while target_qmp.command("query-status")["status"] != "running":
        time.sleep(0.02)
    save(target)
    qmp.command("quit")
    end(source)
    print(json.dumps({"guest": source["name"], "downtime_ms": info["downtime"],
                      "setup_ms": info["setup-time"], "total_ms": info["total-time"],
                      "ram_bytes": info["ram"]["transferred"],
                      "dirty_rounds": info["ram"]["dirty-sync-count"],
                      "attach_ms": round(1000 * (prepared - started))}))


def qmp_command(arguments):
    record = load(arguments.name)
    extra = json.loads(arguments.arguments) if arguments.arguments else {}
    print(json.dumps(Qmp(instance_dir(record) / "qmp.sock").command(arguments.command, **extra), indent=1))


def plug(arguments):
    """Plugs a module of memory in: the front-end shares it at once, whether the guest uses it or not."""
    qmp = Qmp(instance_dir(load(arguments.name)) / "qmp.sock")
    size = int(arguments.size.rstrip("M")) << 20
    qmp.command("object-add", qom_type="memory-backend-memfd", id=arguments.id + "-mem", size=size, share=True)
    qmp.command("device_add", driver="pc-dimm", id=arguments.id, memdev=arguments.id + "-mem")


def unplug(arguments):
    """Asks the guest for a module of memory, and waits until it has given it back."""
    qmp = Qmp(instance_dir(load(arguments.name)) / "qmp.sock")
    deadline = time.monotonic() + arguments.timeout
    qmp.command("device_del", id=arguments.id)
    while any(device["data"]["id"] == arguments.id for device in qmp.command("query-memory-devices")):
        if time.monotonic() > deadline:
            raise GuestError(f"guest {arguments.name} did not give {arguments.id} back in {arguments.timeout} s")
        time.sleep(0.05)
    qmp.command("object-del", id=arguments.id + "-mem")


def reset(arguments):
    """Resets the machine, as its button does: the guest boots anew on the same front-end."""
    record = load(arguments.name)
    console = instance_dir(record) / "console.log"
    ready = f"guest: ready {record['name']}"
    boots = lambda: console.read_text(errors="replace").count(ready)        # noqa: E731
    before = boots()
    qmp = Qmp(instance_dir(record) / "qmp.sock")
    qmp.command("set-action", reboot="reset")
    qmp.command("system_reset")
    deadline = time.monotonic() + arguments.timeout
    while boots() == before:
        if time.monotonic() > deadline:
            raise GuestError(f"guest {record['name']} not ready in {arguments.timeout} s; see {console}")
        time.sleep(0.1)


def kill(arguments):
    record = load(arguments.name)
    if running(record):
        os.kill(record["pid"], 9)
    (state_dir() / f"{arguments.name}.json").unlink()


def listing(_):
    for path in sorted(state_dir().glob("*.json")):
        record = load(path.stem)
        print(record["name"], "running" if running(record) else "dead", record["pid"], record["sock"],
              instance_dir(record))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)

    verb = verbs.add_parser("start", help="boot a guest and wait until it answers")
    verb.add_argument("--name", required=True)
    verb.add_argument("--sock", required=True, help="the vhost-user socket")
    role = verb.add_mutually_exclusive_group()
    role.add_argument("--server", action="store_true", help="QEMU listens, the switch connects")
    role.add_argument("--client", dest="server", action="store_false", help="the switch listens (default)")
    verb.add_argument("--mac", help="default: made from the name")
    verb.add_argument("--ip", help="ADDRESS/LENGTH of eth0, or of eth0.VLAN")
    verb.add_argument("--ip6")
    verb.add_argument("--vlan", help="put the addresses on this VLAN of eth0")
    verb.add_argument("--mtu")
    verb.add_argument("--queues", type=int, default=1, help="queue pairs (and as many CPUs)")
    verb.add_argument("--cpus", type=int)
    verb.add_argument("--ring", type=int, default=256, help="descriptors per ring")
    verb.add_argument("--packed", choices=("on", "off"), default="off")
    verb.add_argument("--mrg", choices=("on", "off"), default="on", help="mergeable receive buffers")
    verb.add_argument("--tso", choices=("on", "off"), default="on", help="offer TSO to the guest")
    verb.add_argument("--indirect", choices=("on", "off"), default="on")
    verb.add_argument("--msix", choices=("auto", "on", "off"), default="auto", help="auto: off under TCG")
    verb.add_argument("--device", help="more properties for virtio-net-pci, e.g. csum=off,guest_csum=off")
    verb.add_argument("--mem", default="256M")
    verb.add_argument("--slots", type=int, default=0, help="for modules of memory to be plugged in")
    verb.add_argument("--huge", action="store_true", help="guest memory in 2 MiB hugepages")
    verb.add_argument("--accel", default="auto", help=f"auto (default), kvm or {TCG}")
    verb.add_argument("--cpu", default="max")
    verb.add_argument("--nice", type=int, default=0)
    verb.add_argument("--image", default=os.environ.get("GUEST_IMAGE"), help="mkguest's directory ($GUEST_IMAGE)")
    verb.add_argument("--timeout", type=float, default=120)
    verb.set_defaults(run=start)

    verb = verbs.add_parser("exec", help="run a shell command in a guest")
    verb.add_argument("name")
    verb.add_argument("command")
    verb.add_argument("--timeout", type=int, default=60)
    verb.set_defaults(run=execute)

    verb = verbs.add_parser("migrate", help="live-migrate to a new QEMU on another port")
    verb.add_argument("name")
    verb.add_argument("--to", required=True, metavar="SOCK")
    role = verb.add_mutually_exclusive_group()
    role.add_argument("--server", action="store_true")
    role.add_argument("--client", action="store_true")
    verb.add_argument("--tcp", type=int, metavar="PORT", help="through 127.0.0.1:PORT, not a unix socket")
    verb.add_argument("--downtime", type=int, default=300, help="QEMU's downtime limit, ms")
    verb.add_argument("--bandwidth", type=int, default=1 << 30, help="bytes per second")
    verb.add_argument("--timeout", type=float, default=60)
    verb.set_defaults(run=migrate)

    verb = verbs.add_parser("qmp", help="send QEMU one QMP command")
    verb.add_argument("name")
    verb.add_argument("command")
    verb.add_argument("arguments", nargs="?", help="JSON")
    verb.set_defaults(run=qmp_command)

    verb = verbs.add_parser("reset", help="reset the machine, and wait until the guest answers again")
    verb.add_argument("name")
    verb.add_argument("--timeout", type=float, default=120)
    verb.set_defaults(run=reset)

    for name, function, text in (("plug", plug, "plug a module of memory in"),
                                 ("unplug", unplug, "ask the guest for it back")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("name")
        verb.add_argument("id")
        if name == "plug":
            verb.add_argument("--size", default="128M", help="in MiB, a multiple of 128M")
        verb.add_argument("--timeout", type=float, default=60)
        verb.set_defaults(run=function)

    for name, function, text in (("stop", stop, "end a guest"), ("kill", kill, "end it with SIGKILL")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("name")
        verb.set_defaults(run=function)
    verbs.add_parser("list", help="the guests of $GUEST_STATE").set_defaults(run=listing)

    arguments = parser.parse_args()
    if getattr(arguments, "image", "x") is None:
        parser.error("set GUEST_IMAGE or --image to mkguest's directory")
    try:
        return arguments.run(arguments)
    except (GuestError, TimeoutError) as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1
