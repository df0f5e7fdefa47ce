/* One method's cell: a token canvas of the page's own kind, the answer against the full one, and the figures. */
window.ScriptCompareCell = (() => {
  "use strict";
  const core = window.ScriptCompareCore;
  const GROUP = "compare";
  const u16 = (text) => (text ? new Uint16Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer) : new Uint16Array(0));

  class Cell {
    constructor(template, place) {
      this.root = template.content.firstElementChild.cloneNode(true);
      this.part = (name) => this.root.querySelector(`[data-cell="${name}"]`);
      this.place = place;
      this.id = `compare-cell-${place}`;
      this.tools = { props: { grid_id: this.id, group: GROUP, budget_id: "compare-no-slider", value: null }, trigger() {}, watch() {} };
      /* One voice for the whole comparison instead of one for each cell. */
      this.root.querySelectorAll("[role=status]").forEach((live) => { live.removeAttribute("role"); live.removeAttribute("aria-live"); });
      this.root.addEventListener("keydown", (event) => { if (/^[rekoREKO[\]]$/.test(event.key)) event.stopPropagation(); }, true);
    }

    /* The canvas needs to be on the page before it can measure itself. */
    begin() {
      this.grid = window.ScriptGrid.mount(this.part("canvas"), this.tools);
      const paint = this.grid.paint.bind(this.grid);
      this.grid.paint = () => { paint(); this.merged(); this.label(); };
      this.grid.canvas.addEventListener("pointerleave", (event) => {
        if (event.pointerType === "mouse") {
          document.dispatchEvent(new CustomEvent("script:token", { detail: { grid: this.id, group: GROUP, index: -1 } }));
        }
      });
    }

    label() {
      const { canvas } = this.grid;
      const words = canvas.getAttribute("aria-label");
      if (this.cell && !words.startsWith(this.cell.title)) canvas.setAttribute("aria-label", `${this.cell.title}. ${words}`);
    }

    show(cell, base, figures) {
      this.cell = cell;
      this.root.dataset.method = cell.method;
      this.root.dataset.state = cell.state;
      this.root.setAttribute("aria-label", cell.title);
      this.root.setAttribute("aria-busy", String(cell.state === "running"));
      this.part("title").textContent = cell.title;
      const badge = this.part("badge");
      badge.textContent = core.badge(cell);
      badge.dataset.same = String(cell.same);
      this.part("reason").textContent = cell.reason || "";
      this.canvas(cell, base);
      this.answer(cell);
      this.figures(cell, figures);
      this.part("notes").replaceChildren(...this.remarks(cell).map((text) => item("li", text)));
    }

    canvas(cell, base) {
      const drawn = base && cell.kept !== undefined;
      this.part("canvas").hidden = !drawn;
      if (!drawn) { this.drawn = ""; return; }
      const key = `${base.version}/${cell.kept}`;
      if (key === this.drawn) return;
      this.drawn = key;
      this.layers = cell.layers ? u16(cell.layers) : null;
      this.mergedTokens = u16(cell.merged);
      this.kept = u16(cell.kept);
      this.grid.receive({ ...base, kept: cell.kept, method: cell.method, title: cell.title });
    }

    /* Kept places whose vector is a merge of several are dotted. */
    merged() {
      const { grid } = this;
      if (!grid.data || !grid.layout || !this.mergedTokens) return;
      const ctx = grid.context;
      this.mergedTokens.forEach((i) => {
        const view = grid.viewOf(i);
        if (!view) return;
        const [x, y, w, h] = grid.rectangle(view, i);
        ctx.beginPath();
        ctx.arc(x + w / 2, y + h / 2, Math.max(1.5, Math.min(w, h) * 0.26), 0, 7);
        ctx.fillStyle = "#fbbf24";
        ctx.fill();
        ctx.lineWidth = 1;
        ctx.strokeStyle = "#451a03";
        ctx.stroke();
      });
    }

    answer(cell) {
      const line = this.part("answer");
      if (!cell.diff) {
        line.textContent = cell.text || "";
        return;
      }
      const parts = cell.diff.map(([kind, text]) => {
        if (kind === "same") return document.createTextNode(text);
        const made = item(kind === "added" ? "ins" : "del", text);
        made.title = kind === "added" ? "only in this answer" : "only in the answer from all tokens";
        return made;
      });
      line.replaceChildren(...(parts.length ? parts : [document.createTextNode(cell.text)]));
    }

    figures(cell, figures) {
      const rows = cell.state === "done" ? figures : [];
      this.part("figures").replaceChildren(...rows.map((figure) => {
        const row = document.createElement("div");
        row.dataset.figure = figure.key;
        row.title = figure.what;
        row.append(item("dt", figure.label), item("dd", figure.words(cell[figure.key])));
        return row;
      }));
    }

    remarks(cell) {
      const said = [];
      if (cell.ours) said.push("This schedule or split is ours; the authors published none for it.");
      if (this.mergedTokens && cell.merged) said.push(`${this.mergedTokens.length} of these places are merged tokens (dots).`);
      if (cell.beside) {
        said.push(cell.method === "visionzip"
          ? `${cell.beside} more without a place of their own: the encoder's CLS token, once for each crop.`
          : `${cell.beside} more without a place of their own, made of what was dropped.`);
      }
      if (cell.separators) said.push(`${cell.separators} of the tokens are separators between rows of tiles.`);
      if (cell.cut_short) said.push("Cut at the length limit.");
      return [...said, ...(cell.notes || [])];
    }

    /* What became of a token here, in two or three words. */
    fate(index) {
      if (!this.kept || !this.cell || this.cell.kept === undefined) return null;
      const kept = this.kept.includes(index);
      const layer = this.layers && !kept ? this.layers[index] : 0;
      return { kept, words: layer > 0 ? `${this.cell.title} (until layer ${layer})` : this.cell.title };
    }
  }

  function item(tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    return made;
  }

  return { Cell, GROUP, item, u16 };
})();
