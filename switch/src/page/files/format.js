// Numbers for people.

const INTEGERS = new Intl.NumberFormat("en");
const PREFIXES = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

// Three digits, and the unit with an SI prefix.
function scaled(value, unit) {
  for (const [size, prefix] of PREFIXES) {
    if (value >= size * 0.9995) return [digits(value / size), prefix + unit];
  }
  return [String(Math.round(value)), unit];
}

function digits(value) {
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

const bits = (value) => scaled(value, "bit/s");
const frames = (value) => scaled(value, "pps");
// Without zeros behind the point.
const short = ([value, unit]) => [String(Number(value)), unit];
const words = (pair) => pair.join("\u00a0");
const integer = (value) => INTEGERS.format(value);
const percent = (ratio) => (ratio > 0 && ratio < 0.005 ? "<1" : (ratio * 100).toFixed(0));

// Frames a second that were dropped: one in a minute is worth a digit.
const perSecond = (value) =>
  value > 0 && value < 0.1
    ? "<0.1"
    : value < 10 && value % 1
      ? value.toFixed(1)
      : integer(Math.round(value));

function duration(seconds) {
  const [d, h, m] = [
    Math.floor(seconds / 86400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  if (d) return `${d} d ${h} h`;
  return h ? `${h} h ${m} min` : m ? `${m} min ${seconds % 60} s` : `${seconds} s`;
}
