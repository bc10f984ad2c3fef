"""The QEMU process of a guest: its command line, its directory, what is noted of it in $GUEST_STATE."""
import base64
import json
import os
import pathlib
import select
import subprocess
import time
from typing import Any

from .qmp import GuestError, Lines, Qmp, unix_connect

# A guest as $GUEST_STATE has it: name, generation, sock, pid, options.
Record = dict[str, Any]
TCG = "tcg,thread=multi"


def state_dir() -> pathlib.Path:
    """$GUEST_STATE."""
    try:
        return pathlib.Path(os.environ["GUEST_STATE"])
    except KeyError:
        raise GuestError("set GUEST_STATE to a directory (mktemp -d) first") from None


def instance_dir(record: Record) -> pathlib.Path:
    """Sockets and logs of one QEMU process."""
    return state_dir() / f"{record['name']}.{record['generation']}"


def save(record: Record) -> None:
    """Notes a guest, whole or not at all."""
    path = state_dir() / f"{record['name']}.json"
    path.with_suffix(".tmp").write_text(json.dumps(record, indent=1))
    path.with_suffix(".tmp").rename(path)


def load(name: str) -> Record:
    """What is noted of a guest."""
    try:
        record: Record = json.loads((state_dir() / f"{name}.json").read_text())
        return record
    except FileNotFoundError:
        raise GuestError(f"no guest {name} in {state_dir()}") from None


def accelerator(image: str) -> str:
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
        assert probe.stdout
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


def qemu_command(record: Record, incoming: str | None = None) -> list[str]:
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


def launch(record: Record, incoming: str | None = None) -> subprocess.Popen[bytes]:
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


def running(record: Record) -> bool:
    """True while the recorded pid is still our QEMU, not a later process with its number."""
    try:
        command = pathlib.Path(f"/proc/{record['pid']}/cmdline").read_bytes()
        state = pathlib.Path(f"/proc/{record['pid']}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return str(instance_dir(record)).encode() in command and state != "Z"


def wait_ready(record: Record, process: subprocess.Popen[bytes], timeout: float) -> None:
    """Waits until the guest has booted."""
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


def logs(record: Record) -> str:
    """The last words of QEMU and of the guest's console."""
    return "".join(path.read_text(errors="replace")[-1000:] for path in
                   (instance_dir(record) / "qemu.log", instance_dir(record) / "console.log") if path.exists())


def run_in_guest(record: Record, command: str, timeout: int) -> tuple[int, bytes]:
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


def end(record: Record) -> None:
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
