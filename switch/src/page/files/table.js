// A table that is sorted by any of its columns. Its rows stay the same elements from one refresh
// to the next; a long one has only those rows in the document that can be seen.

const ROW_HEIGHT = 33;
// Rows kept beyond each edge of the window.
const BEYOND = 12;
const NAMES = new Intl.Collator("en", { numeric: true });

class Table {
  // columns: { key, title, cell, by, hint?, look?, up? }; up: ascending comes first.
  constructor(element, columns, options) {
    this.element = element;
    this.columns = columns;
    this.options = options;
    this.sorted = { ...options.sort };
    this.rows = [];
    this.order = [];
    this.shown = new Map();
    this.spare = [];
    this.isHeld = false;
    this.makeHead();
    this.body = element.appendChild(document.createElement("tbody"));
    if (options.isLong) this.makeLong();
  }

  makeHead() {
    const head = element("tr", "", element("thead", "", this.element));
    this.heads = this.columns.map((column) => {
      const th = element("th", column.look ?? "", head);
      th.scope = "col";
      const button = element("button", "", th);
      button.type = "button";
      button.textContent = column.title;
      if (column.hint) button.title = column.hint;
      button.addEventListener("click", () => this.sortBy(column));
      return th;
    });
    this.markHead();
  }

  markHead() {
    this.columns.forEach((column, idx) => {
      const isIt = column.key === this.sorted.key;
      attribute(
        this.heads[idx],
        "aria-sort",
        isIt ? (this.sorted.isUp ? "ascending" : "descending") : null,
      );
    });
  }

  makeLong() {
    const gap = () => {
      const row = element("tr", "gap", this.body);
      row.setAttribute("aria-hidden", "true");
      element("td", "", row);
      return row;
    };
    [this.above, this.below] = [gap(), gap()];
    let isAsked = false;
    const look = () => {
      if (isAsked) return;
      isAsked = true;
      requestAnimationFrame(() => {
        isAsked = false;
        this.draw();
      });
    };
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    // Nothing moves away below the pointer, or from under the focus.
    const hold = () => this.hold(this.isPointed || this.body.contains(document.activeElement));
    this.body.addEventListener("pointerenter", (event) => {
      this.isPointed = event.pointerType === "mouse";
      hold();
    });
    this.body.addEventListener("pointerleave", () => {
      this.isPointed = false;
      hold();
    });
    this.body.addEventListener("focusin", hold);
    this.body.addEventListener("focusout", () => setTimeout(hold));
    this.body.addEventListener("keydown", (event) => this.walk(event));
  }

  hold(isHeld) {
    if (this.isHeld === isHeld) return;
    this.isHeld = isHeld;
    this.options.held?.(isHeld);
    if (!isHeld) this.arrange();
  }

  // The arrow keys go from row to row.
  walk(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const target = step && event.target.closest("tr")?.[step]?.querySelector("button");
    if (!target) return;
    event.preventDefault();
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  }

  sortBy(column) {
    const isAgain = this.sorted.key === column.key;
    this.sorted = { key: column.key, isUp: isAgain ? !this.sorted.isUp : Boolean(column.up) };
    this.markHead();
    this.arrange();
    this.options.sortedBy?.(this.sorted);
  }

  // Sorts by the column of this key, if there is one.
  sort(key, isUp) {
    if (!this.columns.some((column) => column.key === key)) return;
    this.sorted = { key, isUp };
    this.markHead();
    this.arrange();
  }

  // The rows as they are now, in the topology's order. `top`: of a long table, as measured before
  // anything was changed, since to measure afterwards takes a layout.
  show(rows, top) {
    this.rows = rows;
    if (this.isHeld) this.keepOrder();
    else this.sortRows();
    this.draw(top);
  }

  // The same rows, sorted and filtered anew.
  arrange() {
    this.sortRows();
    this.draw();
  }

  wanted() {
    return this.options.filter ? this.rows.filter(this.options.filter) : this.rows.slice();
  }

  sortRows() {
    const { by } = this.columns.find((column) => column.key === this.sorted.key);
    const sign = this.sorted.isUp ? 1 : -1;
    const compare = (a, b) => (typeof a === "string" ? NAMES.compare(a, b) : a - b);
    const keyed = this.wanted().map((row) => [by(row), row]);
    keyed.sort(([a], [b]) => sign * compare(a, b));
    this.order = keyed.map(([, row]) => row);
  }

  keepOrder() {
    const rows = new Map(this.wanted().map((row) => [this.options.id(row), row]));
    const kept = [];
    for (const before of this.order) {
      const id = this.options.id(before),
        row = rows.get(id);
      if (row) kept.push(row);
      rows.delete(id);
    }
    this.order = kept.concat([...rows.values()]);
  }

  // How far below the window's upper edge the first row is, or would be.
  top() {
    return this.body.getBoundingClientRect().top;
  }

  // Which rows can be seen: from, to.
  span(top) {
    if (!this.options.isLong) return [0, this.order.length];
    const first = Math.floor(-top / ROW_HEIGHT) - BEYOND;
    const last = Math.ceil((innerHeight - top) / ROW_HEIGHT) + BEYOND;
    const most = this.order.length;
    return [Math.max(0, Math.min(first, most)), Math.max(0, Math.min(last, most))];
  }

  draw(top = this.top()) {
    const [from, to] = this.span(top);
    const seen = this.order.slice(from, to);
    const ids = new Set(seen.map(this.options.id));
    for (const [id, line] of this.shown) {
      if (ids.has(id)) continue;
      line.element.remove();
      this.shown.delete(id);
      this.spare.push(line);
    }
    let next = this.above ? this.above.nextSibling : this.body.firstChild;
    seen.forEach((row, idx) => {
      const line = this.line(this.options.id(row));
      if (line.element === next) next = next.nextSibling;
      else this.body.insertBefore(line.element, next);
      line.updates.forEach((update) => update(row));
      this.options.mark?.(line.element, row);
      if (this.above) attribute(line.element, "aria-rowindex", String(from + idx + 2));
    });
    if (!this.above) return;
    attribute(this.element, "aria-rowcount", String(this.order.length + 1));
    this.stretch(this.above, from);
    this.stretch(this.below, this.order.length - to);
  }

  stretch(gap, n) {
    const height = `${n * ROW_HEIGHT}px`;
    if (gap.firstChild.style.height !== height) gap.firstChild.style.height = height;
    if (gap.hidden !== (n === 0)) gap.hidden = n === 0;
  }

  // The row's element: its own, one that is not needed any more, or a new one.
  line(id) {
    let line = this.shown.get(id);
    if (line) return line;
    line = this.spare.pop() ?? this.makeLine();
    this.shown.set(id, line);
    return line;
  }

  makeLine() {
    const row = document.createElement("tr");
    const updates = this.columns.map((column) =>
      column.cell(element("td", column.look ?? "", row)),
    );
    return { element: row, updates };
  }
}
