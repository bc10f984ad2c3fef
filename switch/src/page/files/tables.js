// The tables.

let opened = null,
  lastName = null;
const nameCell = (cell) => {
  const button = element("button", "name", cell),
    node = textIn(button);
  button.type = "button";
  button.addEventListener("click", () => open(node.data));
  return (vm) => {
    put(node, vm.name);
    attribute(button, "title", vm.name.length > 16 ? vm.name : null);
  };
};
const limitColumn = (key, title, way) => ({
  key,
  title,
  hint: "The part of its limit that it uses; sorted by that part",
  look: "wide w-limit",
  by: (vm) => partOf(way(vm)) ?? -1,
  cell: textCell(
    (vm) => limitOf(way(vm)),
    (vm) => (partOf(way(vm)) === null ? "soft" : ""),
  ),
});
const packetColumn = (key, title, way) => ({
  key,
  title,
  look: "right extra",
  by: (vm) => way(vm).frames_per_second,
  cell: numberCell((vm) => frames(way(vm).frames_per_second)),
});
const [fromVm, toVm] = [(vm) => vm.from_vm, (vm) => vm.to_vm];

const vms = new Table(
  at("vms"),
  [
    { key: "name", title: "VM", up: true, look: "w-name", by: (vm) => vm.name, cell: nameCell },
    {
      key: "state",
      title: "State",
      hint: "Of its NICs: the worst first",
      up: true,
      look: "w-state",
      by: (vm) => RANKS[stateOf(vm)[0]],
      cell: stateCell(stateOf),
    },
    rates("from", "From VM", "What it sends, and the part of its limit that this is", fromVm),
    limitColumn("from-limit", "Limit from VM", fromVm),
    packetColumn("from-packets", "From VM, pps", fromVm),
    {
      key: "throttled",
      title: "Throttled",
      hint: "Part of the last second for which its limit held it back",
      look: "right wide w-few",
      by: (vm) => vm.throttled_ratio,
      cell: plainNumberCell(
        (vm) =>
          vm.from_vm.limit_bits_per_second || vm.from_vm.limit_packets_per_second
            ? `${percent(vm.throttled_ratio)}\u00a0%`
            : "–",
        (vm) => (vm.throttled_ratio > 0 ? "warn" : "soft"),
      ),
    },
    rates("to", "To VM", "What it is sent, and the part of its limit that this is", toVm),
    limitColumn("to-limit", "Limit to VM", toVm),
    packetColumn("to-packets", "To VM, pps", toVm),
    ...dropColumns("wide w-few"),
  ],
  {
    id: (vm) => vm.name,
    isLong: true,
    sort: { key: "name", isUp: true },
    filter: (vm) => matches(vm),
    mark: (row, vm) => className(row, vm.name === opened ? "open" : ""),
    held: (isHeld) => {
      at("held").hidden = !isHeld || vms.sorted.key === "name";
    },
    sortedBy: () => keep(),
  },
);

const cores = new Table(
  at("cores"),
  [
    {
      key: "cpu",
      title: "CPU",
      up: true,
      look: "w-cpu",
      by: (core) => core.cpu,
      cell: textCell((core) => String(core.cpu)),
    },
    {
      key: "busy",
      title: "Busy",
      hint: "Part of the last second spent on bursts that had frames",
      look: "right",
      by: (core) => core.busy_ratio,
      cell: meterCell(
        (core) => `${percent(core.busy_ratio)}\u00a0%`,
        (core) => core.busy_ratio,
      ),
    },
    {
      key: "used",
      title: "CPU time",
      hint: "Part of the last second for which it had the CPU",
      look: "right w-used",
      by: (core) => core.cpu_ratio,
      cell: plainNumberCell((core) => `${percent(core.cpu_ratio)}\u00a0%`),
    },
    {
      key: "frames",
      title: "Frames",
      look: "right w-frames",
      by: (core) => core.frames_per_second,
      cell: plainNumberCell((core) => words(frames(core.frames_per_second))),
    },
  ],
  { id: (core) => core.cpu, sort: { key: "cpu", isUp: true } },
);

const uplinks = new Table(
  at("uplinks"),
  [
    {
      key: "name",
      title: "Uplink",
      up: true,
      look: "w-uplink",
      by: (uplink) => uplink.name,
      cell: textCell((uplink) => uplink.name),
    },
    {
      key: "state",
      title: "State",
      up: true,
      by: (uplink) => RANKS[uplink.state],
      cell: stateCell((uplink) => [uplink.state, uplink.state]),
    },
    {
      key: "rx",
      title: "Rx",
      hint: "What it receives from the wire",
      look: "right w-wire",
      by: (uplink) => uplink.rx.bits_per_second,
      cell: plainNumberCell((uplink) => words(bits(uplink.rx.bits_per_second))),
    },
    {
      key: "tx",
      title: "Tx",
      hint: "What it sends to the wire",
      look: "right w-wire",
      by: (uplink) => uplink.tx.bits_per_second,
      cell: plainNumberCell((uplink) => words(bits(uplink.tx.bits_per_second))),
    },
    {
      key: "drops",
      title: "Drops/s",
      hint: "Frames from the wire that the switch dropped, in the last second",
      look: "right w-few",
      by: (uplink) => uplink.drops_per_second,
      cell: plainNumberCell((uplink) => perSecond(uplink.drops_per_second), dropping),
    },
    {
      key: "lost",
      title: "Lost",
      look: "right wide w-few",
      hint: "Frames that the kernel or the device lost, since the start",
      by: (uplink) => uplink.lost_frames,
      cell: plainNumberCell(
        (uplink) => integer(uplink.lost_frames),
        (uplink) => dropped(uplink.lost_frames),
      ),
    },
  ],
  { id: (uplink) => uplink.name, sort: { key: "name", isUp: true } },
);

const reasonColumns = [
  {
    key: "reason",
    title: "Reason",
    up: true,
    look: "w-half",
    by: (drop) => drop.reason,
    cell: (cell) => {
      const update = textCell((drop) => drop.reason)(cell);
      return (drop) => {
        update(drop);
        attribute(cell, "title", drop.sentence);
      };
    },
  },
  {
    key: "drops",
    title: "Drops/s",
    look: "right",
    by: (drop) => drop.drops_per_second,
    cell: plainNumberCell((drop) => perSecond(drop.drops_per_second), dropping),
  },
  {
    key: "dropped",
    title: "Since the start",
    look: "right w-third",
    by: (drop) => drop.frames,
    cell: plainNumberCell((drop) => integer(drop.frames)),
  },
];
const reason = (drop) => drop.reason;
const drops = new Table(at("drops"), reasonColumns, {
  id: reason,
  sort: { key: "drops", isUp: false },
});
const reasons = new Table(at("reasons"), reasonColumns, {
  id: reason,
  sort: { key: "drops", isUp: false },
});

const nics = new Table(
  at("nics"),
  [
    {
      key: "name",
      title: "NIC",
      up: true,
      by: (nic) => nic.name,
      cell: textCell((nic) => nic.name),
    },
    {
      key: "network",
      title: "Network",
      up: true,
      by: (nic) => nic.network,
      cell: textCell((nic) => nic.network),
    },
    {
      key: "state",
      title: "State",
      up: true,
      look: "w-half",
      by: (nic) => RANKS[nic.state],
      cell: stateCell((nic) => [nic.state, nic.sentence ?? nic.state]),
    },
  ],
  { id: (nic) => nic.name, sort: { key: "name", isUp: true } },
);
