// What the rows of each table say.

const RANKS = { impaired: 0, connected: 1, waiting: 2, disabled: 3, up: 4 };
const at = (id) => document.getElementById(id);

// The state of a VM: that of its worst NIC, and what that waits for.
function stateOf(vm) {
  const worst = vm.nics.reduce((worst, nic) =>
    RANKS[nic.state] < RANKS[worst.state] ? nic : worst,
  );
  if (worst.state === "up") return ["up", "up"];
  const why = worst.sentence ?? worst.state;
  if (vm.nics.length === 1) return [worst.state, why];
  const nUp = vm.nics.filter((nic) => nic.state === "up").length;
  return [worst.state, `${nUp} of ${vm.nics.length} up; ${worst.name}: ${why}`];
}

// The part of its limits that it uses: bits or packets, whichever is nearer to its limit.
function partOf(way) {
  const parts = [];
  if (way.limit_bits_per_second) parts.push(way.bits_per_second / way.limit_bits_per_second);
  if (way.limit_packets_per_second)
    parts.push(way.frames_per_second / way.limit_packets_per_second);
  return parts.length ? Math.max(...parts) : null;
}

function limitOf(way) {
  const limits = [];
  if (way.limit_bits_per_second) limits.push(words(short(bits(way.limit_bits_per_second))));
  if (way.limit_packets_per_second) limits.push(words(short(frames(way.limit_packets_per_second))));
  return limits.length ? `${percent(partOf(way))}\u00a0% of ${limits.join(", ")}` : "no limit";
}

const dropping = (row) => (row.drops_per_second > 0 ? "hot" : "");
const dropped = (n) => (n > 0 ? "" : "soft");
const rates = (key, title, hint, way) => ({
  key,
  title,
  hint,
  look: "right w-rate",
  by: (row) => way(row).bits_per_second,
  cell: rateCell(
    (row) => bits(way(row).bits_per_second),
    (row) => partOf(way(row)),
  ),
});
const dropColumns = (look) => [
  {
    key: "drops",
    title: "Drops/s",
    hint: "Frames from it that were dropped, in the last second",
    look: "right w-few",
    by: (row) => row.drops_per_second,
    cell: plainNumberCell((row) => perSecond(row.drops_per_second), dropping),
  },
  {
    key: "dropped",
    title: "Dropped",
    hint: "Frames from it that were dropped, since the start",
    look: `right ${look}`,
    by: (row) => row.dropped_frames,
    cell: plainNumberCell(
      (row) => integer(row.dropped_frames),
      (row) => dropped(row.dropped_frames),
    ),
  },
];
