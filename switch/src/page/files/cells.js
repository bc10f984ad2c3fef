// What is in a cell. Text goes in as text: nothing here reads HTML.

function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

function textIn(parent) {
  const node = document.createTextNode("");
  parent.append(node);
  return node;
}

// What has not changed is not touched.
function put(node, text) {
  if (node.data !== text) node.data = text;
}

function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function className(element, name) {
  if (element.className !== name) element.className = name;
}

// Kinds of cells: each makes what is in it once, and returns what puts a row's values in.

const textCell =
  (value, look = () => "") =>
  (cell) => {
    const node = textIn(cell),
      base = cell.className;
    return (row) => {
      const text = value(row);
      put(node, text);
      className(cell, `${base} ${look(row)}`.trim());
      attribute(cell, "title", text.length > 20 ? text : null);
    };
  };

const numberCell =
  (value, look = () => "") =>
  (cell) => {
    const number = textIn(cell),
      unit = textIn(element("span", "unit", cell)),
      base = cell.className;
    return (row) => {
      const [digits, of] = value(row);
      put(number, `${digits}\u00a0`);
      put(unit, of);
      className(cell, `${base} ${look(row)}`.trim());
    };
  };

const plainNumberCell =
  (value, look = () => "") =>
  (cell) => {
    const number = textIn(cell),
      base = cell.className;
    return (row) => {
      put(number, value(row));
      className(cell, `${base} ${look(row)}`.trim());
    };
  };

// A bar at the cell's lower edge: the part that something is of all. Null: there is no bar.
function meterIn(cell, part) {
  const meter = element("span", "meter", cell),
    fill = element("i", "", meter);
  meter.setAttribute("aria-hidden", "true");
  let width = null;
  return (row) => {
    const ratio = part(row);
    if (meter.hidden !== (ratio === null)) meter.hidden = ratio === null;
    const next = Math.round(Math.min(ratio ?? 0, 1) * 200) / 200;
    if (next !== width) fill.style.transform = `scaleX(${(width = next)})`;
    className(meter, ratio >= 0.95 ? "meter full" : "meter");
  };
}

const withMeter = (make, part) => (cell) => {
  cell.classList.add("rate");
  const updates = [make(cell), meterIn(cell, part)];
  return (row) => updates.forEach((update) => update(row));
};

// A rate, and the part that it is of what is allowed.
const rateCell = (value, part) => withMeter(numberCell(value), part);
const meterCell = (value, part) => withMeter(plainNumberCell(value), part);

const stateCell = (value) => (cell) => {
  const dot = element("span", "dot", cell),
    node = textIn(cell);
  return (row) => {
    const [state, text] = value(row);
    className(dot, `dot ${state}`);
    put(node, text);
    attribute(cell, "title", text.length > 12 ? text : null);
  };
};
