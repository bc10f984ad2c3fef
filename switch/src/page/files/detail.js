// One VM, beside the list.

function open(name) {
  opened = lastName = name;
  byReasonOfVm.forget();
  at("detail").hidden = false;
  showDetail(0);
  vms.draw();
  at("detail-title").focus();
}

function close() {
  if (opened === null) return;
  opened = null;
  at("detail").hidden = true;
  vms.draw();
  [...vms.body.querySelectorAll("button")]
    .find((button) => button.textContent === lastName)
    ?.focus();
}

function showDetail(seconds) {
  if (opened === null || !last) return;
  const vm = last.vms.find((vm) => vm.name === opened);
  at("gone").hidden = Boolean(vm);
  write(at("detail-title"), opened);
  if (!vm) return;
  const way = (way) =>
    `${words(bits(way.bits_per_second))}, ${words(frames(way.frames_per_second))}`;
  list(at("facts"), [
    ["From VM", way(vm.from_vm)],
    ["Limit", limitOf(vm.from_vm)],
    ["To VM", way(vm.to_vm)],
    ["Limit", limitOf(vm.to_vm)],
    [
      "Throttled",
      `${percent(vm.throttled_ratio)}\u00a0% of the last second`,
      vm.throttled_ratio > 0 ? "warn" : "",
    ],
    ["Dropped", `${integer(vm.dropped_frames)} frames that it sent`],
    ["Missed", `${integer(vm.missed_frames)} frames dropped before delivery to it`],
    ["Lost", `${integer(vm.lost_frames)} frames, by the kernel`],
    ...Object.entries(vm.labels ?? {}).map(([name, value]) => [`Label ${name}`, value]),
  ]);
  nics.show(vm.nics);
  const ofVm = reasonsOf(vm);
  byReasonOfVm.of(ofVm, reason, (drop) => drop.frames, seconds);
  reasons.show(ofVm);
  reasons.element.hidden = ofVm.length === 0;
  reasons.element.nextElementSibling.hidden = ofVm.length > 0;
  write(reasons.element.nextElementSibling, "None.");
}
