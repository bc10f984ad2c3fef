// One report, and how it is shown.

const DATE = { dateStyle: "medium", timeStyle: "short" };

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Pairs of a term and what it is.
function list(dl, pairs) {
  while (dl.children.length > pairs.length) dl.lastElementChild.remove();
  while (dl.children.length < pairs.length) {
    const group = element("div", "", dl);
    element("dt", "", group);
    element("dd", "", group);
  }
  pairs.forEach(([term, text, look = ""], idx) => {
    const [dt, dd] = dl.children[idx].children;
    write(dt, term);
    write(dd, text);
    className(dd, look);
  });
}

// Drops a second, from the difference to the last report.
class Differences {
  // fromZero: what was not there before had dropped none, as a reason; a new VM says nothing.
  constructor(fromZero = false) {
    this.fromZero = fromZero;
    this.forget();
  }

  forget() {
    this.last = null;
  }

  of(rows, key, total, seconds) {
    const now = new Map();
    for (const row of rows) {
      const id = key(row),
        frames = total(row);
      const unseen = this.last && this.fromZero ? { frames: 0, rate: 0 } : { frames, rate: 0 };
      const before = this.last?.get(id) ?? unseen;
      // The same report again: nothing new is known.
      const rate = seconds > 0 ? Math.max(0, frames - before.frames) / seconds : before.rate;
      row.drops_per_second = rate;
      now.set(id, { frames, rate });
    }
    this.last = now;
  }
}

const reasonsOf = (row) =>
  Object.entries(row.drops ?? {}).map(([reason, frames]) => ({
    reason,
    frames,
    sentence: sentences.get(reason),
  }));
const byVm = new Differences(),
  byUplink = new Differences(),
  byReason = new Differences(true),
  byReasonOfVm = new Differences(true);
let last = null,
  sentences = new Map();

function show(report) {
  const top = vms.top();
  // A daemon that started again counts from zero.
  if (last && last.started_at !== report.started_at) last = null;
  if (!last)
    [byVm, byUplink, byReason, byReasonOfVm].forEach((differences) => differences.forget());
  const seconds = last ? (report.at_nanoseconds - last.at_nanoseconds) / 1e9 : 0;
  sentences = new Map(report.drops.map((drop) => [drop.reason, drop.sentence]));
  const total = (row) => row.dropped_frames,
    name = (row) => row.name;
  byVm.of(report.vms, name, total, seconds);
  byUplink.of(report.uplinks, name, total, seconds);
  byReason.of(report.drops, reason, (drop) => drop.frames, seconds);
  last = report;
  list(at("about"), [
    ["Version", report.version],
    ["Topology", `number ${integer(report.topology)}`],
    ["Up", duration(report.uptime_seconds)],
    ["Since", new Date(report.started_at).toLocaleString(undefined, DATE)],
  ]);
  totals(report);
  for (const [table, rows, none] of [
    [cores, report.cores, "No core polls."],
    [uplinks, report.uplinks, "There is no uplink."],
    [drops, report.drops, "No frame was dropped."],
  ]) {
    table.show(rows);
    table.element.hidden = rows.length === 0;
    at(table.element.id).nextElementSibling.hidden = rows.length > 0;
    write(at(table.element.id).nextElementSibling, none);
  }
  const waiting = report.uplinks.filter((uplink) => uplink.sentence);
  list(
    at("notes"),
    waiting.map((uplink) => [uplink.name, uplink.sentence]),
  );
  vms.show(report.vms, top);
  count();
  showDetail(seconds);
}

function totals(report) {
  const sum = (rows, value) => rows.reduce((sum, row) => sum + value(row), 0);
  const all = report.vms.flatMap((vm) => vm.nics).filter((nic) => nic.state !== "disabled");
  const nUp = all.filter((nic) => nic.state === "up").length;
  const rate = sum(report.drops, (drop) => drop.drops_per_second);
  const busiest = Math.max(0, ...report.cores.map((core) => core.busy_ratio));
  list(at("totals"), [
    ["NICs up", `${integer(nUp)} of ${integer(all.length)}`, nUp < all.length ? "warn" : ""],
    ["From VMs", words(bits(sum(report.vms, (vm) => vm.from_vm.bits_per_second)))],
    ["To VMs", words(bits(sum(report.vms, (vm) => vm.to_vm.bits_per_second)))],
    ["Drops/s", perSecond(rate), rate > 0 ? "bad" : ""],
    ["Busiest core", `${percent(busiest)}\u00a0%`, busiest >= 0.95 ? "warn" : ""],
  ]);
}
