/* The comparison: cells that fill one after another, one marked token for all, orders, overlaps, files and a link. */
window.ScriptCompare = (() => {
  "use strict";
  const core = window.ScriptCompareCore;
  const { Cell, GROUP, item } = window.ScriptCompareCell;
  const files = window.ScriptCompareExport;

  class Compare {
    constructor(element, { props, trigger, watch }) {
      this.props = props;
      this.root = element.querySelector(".cmp");
      this.part = (name) => this.root.querySelector(`[data-part="${name}"]:not(.cmp-cell *)`);
      this.cells = [];
      this.sort = "given";
      this.down = false;
      this.part("sort").append(...core.SORTS.map(({ key, label }) => Object.assign(item("option", label), { value: key })));
      this.listen();
      watch("value", () => this.receive(props.value));
      this.receive(props.value);
      if (!props.value) trigger("start", {});
    }

    listen() {
      this.part("sort").addEventListener("change", (event) => this.order(event.target.value, false));
      this.part("direction").addEventListener("click", () => this.order(this.sort, !this.down));
      this.part("csv").addEventListener("click", () => this.csv());
      this.part("png").addEventListener("click", () => this.png());
      this.part("link").addEventListener("click", () => this.link());
      document.addEventListener("script:token", (event) => {
        if (event.detail.group === GROUP && this.root.isConnected) this.readout(event.detail.index);
      });
      document.addEventListener("click", (event) => {
        if (this.root.isConnected && event.target.closest && event.target.closest(`#${this.props.run_id}`)) {
          this.part("status").textContent = "Waiting for the model ...";
        }
      }, true);
    }

    receive(value) {
      if (!value || !value.cells) return;
      this.value = value;
      this.root.dataset.state = value.state;
      this.root.dataset.done = value.progress[0];
      this.part("status").textContent = value.status;
      const bar = this.part("bar");
      bar.hidden = value.state !== "running";
      bar.setAttribute("aria-valuenow", value.progress[0]);
      bar.setAttribute("aria-valuemax", value.progress[1]);
      this.part("fill").style.width = `${(100 * value.progress[0]) / Math.max(1, value.progress[1])}%`;
      this.part("asked").textContent = `\u201c${value.question}\u201d at an average of ${value.budget} tokens.`;
      this.part("full").textContent = value.full.text || "...";
      this.part("verdict").hidden = !value.verdict;
      this.part("verdict").textContent = value.verdict;
      this.part("remarks").replaceChildren(...value.remarks.map((text) => item("li", text)));
      this.part("address").hidden = true;
      this.fill();
      this.table();
      this.jaccard();
      if (value.base) {
        document.dispatchEvent(new CustomEvent("script:settings", { detail: { grid: this.props.grid_id, media: value.base.media } }));
      }
      if (value.state === "done" || value.state === "stopped") this.say(`${value.status}. ${value.verdict}`);
    }

    /* Cells are kept and shown anew, so that a canvas is set up once and not for every word of an answer. */
    fill() {
      const wanted = core.sorted(this.value.cells, this.sort, this.down);
      const host = this.part("cells");
      host.dataset.count = wanted.length;
      host.style.setProperty("--count", wanted.length);
      while (this.cells.length < wanted.length) {
        const made = new Cell(this.part("cell"), this.cells.length);
        host.append(made.root);
        made.begin();
        this.cells.push(made);
      }
      this.cells.forEach((cell, at) => {
        cell.root.hidden = at >= wanted.length;
        if (at < wanted.length) cell.show(wanted[at], this.value.base, core.FIGURES);
      });
    }

    shown() {
      return this.cells.slice(0, this.value ? this.value.cells.length : 0);
    }

    order(key, down) {
      [this.sort, this.down] = [key, down];
      this.part("sort").value = key;
      this.part("direction").textContent = down ? "\u2193" : "\u2191";
      if (!this.value) return;
      this.fill();
      this.table();
      const label = core.SORTS.find((sort) => sort.key === key).label;
      this.say(`Sorted by ${label}, ${down ? "descending" : "ascending"}.`);
    }

    table() {
      const done = core.sorted(this.value.cells, this.sort, this.down);
      this.part("figures").hidden = !done.some((cell) => cell.state === "done");
      const columns = [{ key: "title", label: "Method", words: String }, { key: "same", label: "Same answer", words: (x) => (x ? "yes" : "no") }, ...core.FIGURES];
      const head = document.createElement("tr");
      head.append(...columns.map((column) => this.heading(column)));
      const rows = done.map((cell) => {
        const row = document.createElement("tr");
        row.dataset.method = cell.method;
        row.append(...columns.map(({ key, words }) => {
          const made = item(key === "title" ? "th" : "td", key === "title" ? cell.title : cell[key] === undefined ? "" : words(cell[key]));
          if (key === "title") made.scope = "row";
          return made;
        }));
        if (cell.state !== "done") row.children[1].textContent = core.badge(cell);
        return row;
      });
      const [thead, tbody] = [document.createElement("thead"), document.createElement("tbody")];
      thead.append(head);
      tbody.append(...rows);
      this.swap("table", [thead, tbody]);
      this.part("fine").textContent = core.FIGURES.map((figure) => `${figure.label}: ${figure.what}.`).join(" ");
    }

    heading({ key, label, what }) {
      const made = document.createElement("th");
      made.scope = "col";
      const on = this.sort === key;
      made.setAttribute("aria-sort", on ? (this.down ? "descending" : "ascending") : "none");
      const button = item("button", on ? `${label} ${this.down ? "\u2193" : "\u2191"}` : label);
      button.type = "button";
      button.dataset.sort = key;
      if (what) button.title = what;
      button.addEventListener("click", () => this.order(key, on && !this.down));
      made.append(button);
      return made;
    }

    /* New rows, with the keyboard where it was. */
    swap(name, rows) {
      const table = this.part(name);
      const focused = table.contains(document.activeElement) ? document.activeElement.dataset.sort : "";
      table.replaceChildren(...rows);
      if (focused) table.querySelector(`[data-sort="${focused}"]`).focus();
    }

    jaccard() {
      const { names, matrix } = this.value.overlap;
      this.part("overlaps").hidden = names.length < 2;
      const title = (name) => this.value.cells.find((cell) => cell.method === name).title;
      const head = document.createElement("tr");
      head.append(item("td", ""), ...names.map((name) => Object.assign(item("th", title(name)), { scope: "col" })));
      const rows = names.map((name, i) => {
        const row = document.createElement("tr");
        row.append(Object.assign(item("th", title(name)), { scope: "row" }));
        row.append(...matrix[i].map((share, j) => {
          const made = item("td", share.toFixed(2));
          made.style.setProperty("--share", `${Math.round(34 * share)}%`);
          made.title = i === j ? title(name) : `${title(name)} and ${title(names[j])}`;
          return made;
        }));
        return row;
      });
      this.part("jaccard").replaceChildren(head, ...rows);
    }

    readout(index) {
      const line = this.part("readout");
      const first = this.shown().find((cell) => cell.drawn);
      this.root.dataset.cur = index;
      if (index < 0 || !first) {
        line.textContent = "Point at a token, or focus a picture and use the arrow keys: the same token is marked in every cell.";
        return;
      }
      const fates = this.shown().map((cell) => cell.fate(index)).filter(Boolean);
      const list = (kept) => fates.filter((fate) => fate.kept === kept).map((fate) => fate.words).join(", ") || "none";
      line.textContent = `Token ${index}, ${window.ScriptCore.where(first.grid.data, index).toLowerCase()}. Kept by: ${list(true)}. Dropped by: ${list(false)}.`;
      this.say(line.textContent);
    }

    csv() {
      if (!this.value) return;
      files.saveText(core.csv(this.value, (cell) => [...window.ScriptCompareCell.u16(cell.kept)]), "script-comparison.csv");
    }

    png() {
      if (this.value) files.savePicture(this.value, this.shown(), core.FIGURES, "script-comparison.png");
    }

    async link() {
      if (!this.value) return;
      const url = `${location.origin}${location.pathname}?${this.value.link}`;
      this.part("url").value = url;
      this.part("address").hidden = false;
      let copied = true;
      try { await navigator.clipboard.writeText(url); } catch { copied = false; }
      const upload = this.value.linkable ? "" : " Your own picture is not in it: it shows the first example instead.";
      this.part("linknote").textContent = (copied ? "Copied." : "Copy it from here.") + upload;
      if (!copied) this.part("url").select();
      this.say(this.part("linknote").textContent);
    }

    say(text) {
      clearTimeout(this.saying);
      this.saying = setTimeout(() => { this.part("live").textContent = text; }, 250);
    }
  }

  return { mount: (element, tools) => new Compare(element, tools) };
})();
