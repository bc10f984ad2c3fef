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
import hashlib
import json
import os
import shutil
import sys
import time

from .process import program
from .qemu import (TCG, accelerator, end, instance_dir, launch, load, logs, run_in_guest, running, save, state_dir,
                   wait_ready)
from .qmp import GuestError, Qmp


def start(arguments: argparse.Namespace) -> None:
    """Boots a guest and waits until it answers."""
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


def execute(arguments: argparse.Namespace) -> int:
    """Runs a shell command in a guest; its status."""
    status, output = run_in_guest(load(arguments.name), arguments.command, arguments.timeout)
    sys.stdout.buffer.write(output)
    return status


def stop(arguments: argparse.Namespace) -> None:
    """Ends a guest."""
    record = load(arguments.name)
    end(record)
    (state_dir() / f"{arguments.name}.json").unlink()


def migrate(arguments: argparse.Namespace) -> None:
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
        raise GuestError(f"migration {info['status']}: {info.get('error-desc', '')}" + logs(target))
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


def qmp_command(arguments: argparse.Namespace) -> None:
    """Sends QEMU one QMP command."""
    record = load(arguments.name)
    extra = json.loads(arguments.arguments) if arguments.arguments else {}
    print(json.dumps(Qmp(instance_dir(record) / "qmp.sock").command(arguments.command, **extra), indent=1))


def plug(arguments: argparse.Namespace) -> None:
    """Plugs a module of memory in: the front-end shares it at once, whether the guest uses it or not."""
    qmp = Qmp(instance_dir(load(arguments.name)) / "qmp.sock")
    size = int(arguments.size.rstrip("M")) << 20
    qmp.command("object-add", qom_type="memory-backend-memfd", id=arguments.id + "-mem", size=size, share=True)
    qmp.command("device_add", driver="pc-dimm", id=arguments.id, memdev=arguments.id + "-mem")


def unplug(arguments: argparse.Namespace) -> None:
    """Asks the guest for a module of memory, and waits until it has given it back."""
    qmp = Qmp(instance_dir(load(arguments.name)) / "qmp.sock")
    deadline = time.monotonic() + arguments.timeout
    qmp.command("device_del", id=arguments.id)
    while any(device["data"]["id"] == arguments.id for device in qmp.command("query-memory-devices")):
        if time.monotonic() > deadline:
            raise GuestError(f"guest {arguments.name} did not give {arguments.id} back in {arguments.timeout} s")
        time.sleep(0.05)
    qmp.command("object-del", id=arguments.id + "-mem")


def reset(arguments: argparse.Namespace) -> None:
    """Resets the machine, as its button does: the guest boots anew on the same front-end."""
    record = load(arguments.name)
    console = instance_dir(record) / "console.log"
    ready = f"guest: ready {record['name']}"

    def boots() -> int:
        return console.read_text(errors="replace").count(ready)

    before = boots()
    qmp = Qmp(instance_dir(record) / "qmp.sock")
    qmp.command("set-action", reboot="reset")
    qmp.command("system_reset")
    deadline = time.monotonic() + arguments.timeout
    while boots() == before:
        if time.monotonic() > deadline:
            raise GuestError(f"guest {record['name']} not ready in {arguments.timeout} s; see {console}")
        time.sleep(0.1)


def kill(arguments: argparse.Namespace) -> None:
    """Ends a guest with SIGKILL."""
    record = load(arguments.name)
    if running(record):
        os.kill(record["pid"], 9)
    (state_dir() / f"{arguments.name}.json").unlink()


def listing(_: argparse.Namespace) -> None:
    """The guests of $GUEST_STATE."""
    for path in sorted(state_dir().glob("*.json")):
        record = load(path.stem)
        print(record["name"], "running" if running(record) else "dead", record["pid"], record["sock"],
              instance_dir(record))


def main() -> int:
    arguments = parse()
    try:
        status: int | None = arguments.run(arguments)
        return status or 0
    except (GuestError, TimeoutError) as error:
        print(f"guest: {error}", file=sys.stderr)
        return 1


def parse() -> argparse.Namespace:
    """The command line; `run` is the function of its verb."""
    parser = program(__doc__)
    verbs = parser.add_subparsers(required=True)
    add_start(verbs)

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
    return arguments


def add_start(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verb that has most of the options."""
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
