// Fetches the report again and again; keeps filter and order in the address.

const REFRESH_EVERY = 1000;
const TRY_AGAIN_AFTER = 2000;
const ANSWER_WITHIN = 5000;

let wanted = [];
function matches(vm) {
  if (!wanted.length) return true;
  vm.text ??= textOf(vm);
  return wanted.every((word) => vm.text.includes(word));
}

function textOf(vm) {
  const labels = Object.entries(vm.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  const ofNics = vm.nics.map(
    (nic) => `${nic.name} ${nic.network} ${nic.state} ${nic.sentence ?? ""}`,
  );
  return [vm.name, ...labels, ...ofNics].join("\n").toLowerCase();
}

function filterBy(text) {
  wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
}

function keep() {
  const kept = new URLSearchParams();
  if (at("filter").value) kept.set("filter", at("filter").value);
  const { key, isUp } = vms.sorted;
  if (key !== "name" || !isUp) kept.set("sort", `${isUp ? "" : "-"}${key}`);
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
}

function restore() {
  const kept = new URLSearchParams(location.hash.slice(1)),
    sort = kept.get("sort");
  filterBy((at("filter").value = kept.get("filter") ?? ""));
  if (sort) vms.sort(sort.replace(/^-/, ""), !sort.startsWith("-"));
}

function count() {
  const [n, all] = [vms.order.length, vms.rows.length];
  const text =
    n === all
      ? `${integer(all)} ${all === 1 ? "VM" : "VMs"}`
      : `${integer(n)} of ${integer(all)} VMs`;
  write(at("count"), text);
  const none = at("vms").nextElementSibling;
  none.hidden = n > 0;
  write(none, all ? "No VM matches the filter." : "There is no VM in the topology.");
}

let timer = 0,
  isAsking = false,
  answeredAt = null;

async function refresh() {
  if (isAsking) return;
  clearTimeout(timer);
  isAsking = true;
  let text = null,
    why = "";
  try {
    const response = await fetch("status.json", {
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_WITHIN),
    });
    if (response.ok) text = await response.text();
    else why = `it answers ${response.status} ${response.statusText}`;
  } catch (error) {
    why =
      error.name === "TimeoutError"
        ? `no answer within ${ANSWER_WITHIN / 1000} s`
        : "no connection";
  }
  isAsking = false;
  try {
    if (text !== null) take(text);
  } catch (error) {
    [text, why] = [null, `its answer can't be shown (${error.message})`];
  }
  if (text === null) silent(why);
  if (!document.hidden)
    timer = setTimeout(refresh, text === null ? TRY_AGAIN_AFTER : REFRESH_EVERY);
}

function take(text) {
  const begin = performance.now(),
    report = JSON.parse(text);
  // Another version has another page.
  if (last && report.version && last.version !== report.version) return location.reload();
  show(report);
  performance.measure("weir refresh", { start: begin });
  performance.clearMeasures("weir refresh");
  answeredAt = new Date();
  at("notice").hidden = true;
  document.body.classList.remove("stale");
  document.title = `weir on ${location.host}`;
}

function silent(why) {
  const since = answeredAt ? ` What is shown is of ${answeredAt.toLocaleTimeString()}.` : "";
  write(
    at("notice"),
    `weir does not answer: ${why}.${since} This page tries again every ${TRY_AGAIN_AFTER / 1000} s.`,
  );
  at("notice").hidden = false;
  document.body.classList.add("stale");
  document.title = `(no answer) weir on ${location.host}`;
}

at("filter").addEventListener("input", (event) => {
  filterBy(event.target.value);
  vms.arrange();
  count();
  keep();
});
at("close").addEventListener("click", close);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
});
addEventListener("hashchange", () => {
  restore();
  vms.arrange();
  count();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
restore();
refresh();
