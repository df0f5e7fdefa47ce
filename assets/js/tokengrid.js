/* The token canvas: a picture, the rectangles of its visual tokens, and what was kept. No dependencies.
   ScriptGrid.mount is called once per component; the server only ever replaces the component's value. */
window.ScriptGrid = (() => {
  "use strict";
  const core = window.ScriptCore;
  const grids = new Map();
  const LAYERS = { k: "retained", r: "relevance", e: "redundancy", o: "original" };
  const MAP = { relevance: "viridis", redundancy: "cividis" };
  const pictures = new Map();

  function picture(url, ready) {
    if (!url) return null;
    let image = pictures.get(url);
    if (!image) {
      if (pictures.size > 160) pictures.delete(pictures.keys().next().value);
      image = new Image();
      image.src = url;
      pictures.set(url, image);
    }
    if (!image.complete) image.addEventListener("load", ready, { once: true });
    return image.complete && image.naturalWidth ? image : null;
  }

  class Grid {
    constructor(element, tools) {
      this.props = tools.props;
      this.trigger = tools.trigger;
      this.server = tools.server;
      this.root = element.querySelector(".tg");
      this.part = (name) => this.root.querySelector(`[data-part="${name}"]`);
      this.canvas = this.part("canvas");
      this.context = this.canvas.getContext("2d");
      this.id = this.props.grid_id;
      this.layer = "retained";
      this.opacity = 0.75;
      this.token = -1;
      this.frame = 0;
      this.budget = 1;
      this.data = null;
      this.paints = 0;
      if (this.props.waiting) this.part("wait").textContent = this.props.waiting;
      this.listen();
      tools.watch("value", () => this.receive(this.props.value));
      this.receive(this.props.value);
    }

    /* ---- input -------------------------------------------------------------------------------------------- */

    listen() {
      this.root.querySelectorAll("[data-layer]").forEach((button) => {
        button.addEventListener("click", () => this.show(button.dataset.layer));
        button.addEventListener("keydown", (event) => this.roveLayers(event));
      });
      this.part("opacity").addEventListener("input", (event) => {
        this.opacity = Number(event.target.value) / 100;
        this.schedule();
      });
      this.canvas.addEventListener("pointermove", (event) => this.mark(this.hit(event), "pointer"));
      this.canvas.addEventListener("pointerdown", (event) => this.mark(this.hit(event), "pointer"));
      this.canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") this.mark(-1); });
      this.canvas.addEventListener("click", () => this.choose());
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.schedule()).observe(this.part("stage"));
      new MutationObserver(() => this.schedule()).observe(document.body, { attributeFilter: ["class"] });
      document.addEventListener("input", (event) => this.moved(event), true);
      document.addEventListener("script:token", (event) => {
        const other = event.detail;
        if (this.props.group && other.group === this.props.group && other.grid !== this.id) this.mark(other.index, "peer");
      });
    }

    /* A slider on the page moved: repaint now, or ask the server for what only it can compute. */
    moved(event) {
      if (!event.target.closest || event.target.value === "") return;
      const value = Number(event.target.value);
      if (this.props.budget_id && event.target.closest("#" + this.props.budget_id)) this.setBudget(value * this.unit());
      Object.entries(this.props.dials || {}).forEach(([name, id]) => {
        if (event.target.closest("#" + id)) this.turn(name, value);
      });
    }

    /* How many tokens of the whole budget one step of the slider is: the slider of a video counts per frame. */
    unit() {
      return (this.data && this.data.unit) || 1;
    }

    /* tau, gamma, p: one request at a time, and always one more for the last value. */
    async turn(name, value) {
      this.turned = { ...this.turned, [name]: value };
      if (this.turning || !this.data || !this.data.ticket) return;
      this.turning = true;
      while (this.turned && this.data && this.data.ticket) {
        const settings = { ...this.raw.asked, ...this.turned, budget: Math.min(this.budget, this.data.n) };
        const ticket = this.data.ticket;
        this.turned = null;
        const change = await this.server.redraw({ ticket, settings }).catch(() => null);
        if (!this.data || this.data.ticket !== ticket) continue;
        if (change) this.take({ ...this.raw, ...change, set_budget: false }, this.data.ticket);
        else this.recompute();
      }
      this.turning = false;
    }

    setBudget(budget) {
      if (!Number.isFinite(budget) || budget === this.budget) return;
      this.budget = budget;
      if (this.data && this.data.walk) this.paint();
      else if (this.data && core.pruned(this.data)) this.recompute();
      this.announceSettings();
    }

    /* The server has to answer; later, as the slider's own component has not heard of the move yet. */
    recompute() {
      clearTimeout(this.asking);
      this.asking = setTimeout(() => this.trigger("recompute", { budget: this.budget }), 40);
    }

    receive(value) {
      if (!value || !value.n) {
        this.data = null;
        this.root.dataset.version = "0";
        this.announceKept("");
        this.schedule();
        return;
      }
      if (this.data && value.version && value.version === this.received) return;  // said again, see wiring.lasting
      this.received = value.version;
      if (!this.data || this.data.media !== value.media) this.frame = 0;
      if (!this.data || !core.alike(this.data, value)) this.token = -1;
      this.turned = null;
      this.take(value, value.ticket && { ...value.ticket });
    }

    /* Show a payload. The ticket is an object of its own, so that an answer to an older one can be told. */
    take(value, ticket) {
      this.raw = value;
      this.data = core.decode(value);
      this.data.ticket = ticket;
      const slider = document.querySelector(`#${this.props.budget_id} input[type=range]`);
      this.budget = value.set_budget || !slider ? value.budget : Number(slider.value) * this.unit();
      this.root.dataset.media = value.media;
      this.root.dataset.method = value.method;
      this.root.dataset.tau = value.tau;
      this.root.dataset.gamma = value.gamma;
      const late = !this.data.walk && core.pruned(value) && this.budget !== value.budget;
      if (late && this.budget <= value.n) this.recompute();
      this.paint();
      this.announceSettings();
    }

    announceSettings() {
      if (!this.data) return;
      const { media, model, method, asked, n } = this.data;
      document.dispatchEvent(new CustomEvent("script:settings", {
        detail: { grid: this.id, media, model, method, budget: Math.min(this.budget, n), total: n, asked },
      }));
    }

    show(layer) {
      this.layer = layer;
      this.root.querySelectorAll("[data-layer]").forEach((button) => {
        const on = button.dataset.layer === layer;
        button.setAttribute("aria-checked", String(on));
        button.tabIndex = on ? 0 : -1;
      });
      this.root.dataset.layer = layer;
      this.schedule();
    }

    roveLayers(event) {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const all = [...this.root.querySelectorAll("[data-layer]")];
      const next = all[(all.indexOf(event.currentTarget) + step + all.length) % all.length];
      this.show(next.dataset.layer);
      next.focus();
    }

    /* ---- geometry ----------------------------------------------------------------------------------------- */

    /* Where each group of blocks is drawn: the tiles' mosaic large, the whole-picture crop beside or below it. */
    arrange() {
      const data = this.data;
      const indices = (kind) => data.blocks.map((b, i) => (b.kind === kind ? i : -1)).filter((i) => i >= 0);
      const tiles = indices("tile");
      const frames = indices("frame");
      const main = frames.length ? [frames[Math.min(this.frame, frames.length - 1)]] : tiles.length ? tiles : indices("base");
      const extent = (members) => {
        let [l, t, r, b] = [0, 0, 1, 1];
        members.forEach((m) => {
          const box = data.blocks[m].box;
          [l, t, r, b] = [Math.min(l, box[0]), Math.min(t, box[1]), Math.max(r, box[2]), Math.max(b, box[3])];
        });
        return [l, t, r, b];
      };
      const ratio = (e) => ((e[2] - e[0]) * data.width) / ((e[3] - e[1]) * data.height);
      const W = this.part("stage").clientWidth || 300;
      // On a low screen the sliders below should stay in sight, and a video's timeline first of all.
      const [share, least] = frames.length ? [0.36, 250] : [0.48, 300];
      const H = Math.min(420, Math.max(least, window.innerHeight * share), Math.max(220, W * 1.05));
      const e = extent(main);
      const fit = (w, h) => Math.min(w, h * ratio(e));
      if (!tiles.length || !indices("base").length) {
        const w = fit(W, H);
        const h = w / ratio(e);
        return { height: h, views: [{ members: main, extent: e, x: (W - w) / 2, y: 0, w, h }] };
      }
      const small = extent(indices("base"));
      const part = 0.36;
      const gap = 8;
      const words = 32;  // pixels for the captions
      const beside = fit((W - gap) / (1 + (part * ratio(small)) / ratio(e)), H - words);
      const below = fit(W, (H - gap - 2 * words) / (1 + part));
      const w = Math.max(beside, below);
      const h = w / ratio(e);
      const thumb = { h: h * part, w: h * part * ratio(small) };
      const side = beside >= below;
      const left = Math.max(0, (W - w - (side ? gap + thumb.w : 0)) / 2);
      return {
        height: side ? h + words : h + gap + thumb.h + 2 * words,
        views: [
          { members: main, extent: e, x: left, y: 0, w, h },
          { members: indices("base"), extent: small, x: side ? left + w + gap : left, y: side ? 0 : h + gap + words, ...thumb },
        ],
      };
    }

    place(view, x, y) {
      const [l, t, r, b] = view.extent;
      return [view.x + ((x - l) / (r - l)) * view.w, view.y + ((y - t) / (b - t)) * view.h];
    }

    rectangle(view, i) {
      const [x, y, w, h] = core.tokenBox(this.data, i);
      const [a, b] = this.place(view, x, y);
      const [c, d] = this.place(view, x + w, y + h);
      return [a, b, c - a, d - b];
    }

    viewOf(i) {
      return this.layout.views.find((view) => view.members.includes(this.data.block[i]));
    }

    at(px, py) {
      for (const view of this.layout ? this.layout.views : []) {
        const [l, t, r, b] = view.extent;
        const x = l + ((px - view.x) / view.w) * (r - l);
        const y = t + ((py - view.y) / view.h) * (b - t);
        for (const m of view.members) {
          const { box, rows, cols } = this.data.blocks[m];
          const col = Math.floor(((x - box[0]) / (box[2] - box[0])) * cols);
          const row = Math.floor(((y - box[1]) / (box[3] - box[1])) * rows);
          if (col >= 0 && col < cols && row >= 0 && row < rows) return this.data.lookup[m][row * cols + col];
        }
      }
      return -1;
    }

    hit(event) {
      if (!this.data) return -1;
      const box = this.canvas.getBoundingClientRect();
      return this.at(event.clientX - box.left, event.clientY - box.top);
    }

    key(event) {
      if (!this.data || event.ctrlKey || event.metaKey || event.altKey) return;
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const letter = event.key.toLowerCase();
      if (arrows[event.key]) {
        event.preventDefault();
        this.mark(this.token < 0 ? this.first() : this.step(arrows[event.key]), "key");
      } else if (event.key === "Home" || event.key === "End") {
        event.preventDefault();
        this.mark(event.key === "Home" ? 0 : this.data.n - 1, "key");
      } else if (event.key === "Escape") this.mark(-1, "key");
      else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.choose();
      } else if (LAYERS[letter]) this.show(LAYERS[letter]);
      else if (letter === "[" || letter === "]") this.nudge(letter === "]" ? 1 : -1);
    }

    /* Where arrows start: in a video at the frame on show. */
    first() {
      const shown = this.layout.views[0].members[0];
      return this.data.blocks[shown].kind === "frame" ? this.data.lookup[shown].find((i) => i >= 0) : 0;
    }

    /* The token next to the current one as the eye sees it, so that arrows cross from tile to tile. */
    step([dx, dy]) {
      const view = this.viewOf(this.token) || this.layout.views[0];
      const [x, y, w, h] = this.rectangle(view, this.token);
      const next = this.at(x + w / 2 + dx * w, y + h / 2 + dy * h);
      return next >= 0 ? next : this.token;
    }

    nudge(direction) {
      const slider = document.querySelector(`#${this.props.budget_id} input[type=range]`);
      if (!slider) return;
      const most = this.data.n / this.unit();
      const step = Math.max(1, Math.round(most / 72));
      slider.value = Math.max(1, Math.min(most, this.budget / this.unit() + direction * step));
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }

    mark(index, source) {
      if (!this.data || index === this.token || index >= this.data.n) return;
      this.token = index;
      this.describe(source === "key");
      this.schedule();
      if (source && source !== "peer" && this.props.group) {
        document.dispatchEvent(new CustomEvent("script:token", {
          detail: { grid: this.id, group: this.props.group, index },
        }));
      }
    }

    choose() {
      if (this.token >= 0) this.trigger("select", { index: this.token, value: this.token });
    }

    /* Another frame of a video; the mark stays on its place in the picture. */
    setFrame(index) {
      const data = this.data;
      if (!data || index === this.frame) return;
      this.frame = index;
      const next = data.blocks.map((b, i) => (b.kind === "frame" ? i : -1)).filter((i) => i >= 0)[index];
      if (this.token >= 0 && next !== undefined) {
        this.mark(data.lookup[next][data.row[this.token] * data.blocks[next].cols + data.col[this.token]] ?? -1);
      }
      this.schedule();
    }

    /* For what is drawn beside the canvas: other tokens are kept now. */
    announceKept(state) {
      if (state === this.told) return;
      this.told = state;
      document.dispatchEvent(new CustomEvent("script:kept", { detail: { grid: this.id } }));
    }

    /* ---- output ------------------------------------------------------------------------------------------- */

    schedule() {
      if (this.pending) return;
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.paint();
      });
    }

    paint() {
      this.root.classList.toggle("tg-blank", !this.data);
      if (!this.data || !this.part("stage").clientWidth) return;
      const started = performance.now();
      const state = `${this.data.version}:${this.budget}`;
      if (state !== this.told) this.kept = core.keep(this.data, this.budget);
      this.layout = this.arrange();
      window.ScriptPaint.draw(this, picture);
      const text = core.summary(this.data, this.kept);
      this.part("summary").textContent = text;
      this.part("notes").hidden = !this.kept.lowered;
      this.part("notes").textContent = this.kept.lowered
        ? `This budget needs more tokens than the graph would leave at p = ${this.data.p}, so it drops fewer: ` +
          "there the graph alone decides which stay."
        : "";
      this.canvas.setAttribute("aria-label", `Visual tokens over the picture: ${text}. Arrow keys move over tokens.`);
      if (this.token >= 0) this.describe(false);
      this.legend();
      this.say(text, 500);
      Object.assign(this.root.dataset, {
        version: this.data.version, kept: this.kept.count, total: this.data.n, budget: this.budget, cur: this.token,
        paints: ++this.paints, ms: (performance.now() - started).toFixed(2), frame: this.frame,
      });
      this.announceKept(state);
    }

    legend() {
      const map = MAP[this.layer];
      this.part("scale").hidden = !map;
      this.part("outline").hidden = this.layer === "original";
      if (!map) return;
      this.part("ramp").style.background = core.gradient(map);
      this.part("low").textContent = this.layer === "relevance" ? "off topic" : "unique";
      this.part("high").textContent = this.layer === "relevance" ? "relevant" : "repeats others";
    }

    describe(aloud) {
      const data = this.data;
      const i = this.token;
      const card = this.part("card");
      card.classList.toggle("tg-empty", i < 0);
      this.root.dataset.cur = i;
      this.root.dataset.near = "";
      if (i < 0) {
        this.part("where").textContent = "Point at a token";
        this.part("why").textContent = "Hover, tap, or use the arrow keys to see what it scored and why it stayed or went.";
        this.part("numbers").textContent = "";
        return;
      }
      const kept = this.kept.mask[i] === 1;
      card.dataset.kept = String(kept);
      const near = this.near(i);
      const numbers = [];
      if (data.relevance) numbers.push(`relevance ${data.relevance[i].toFixed(2)}`);
      if (data.redundancy) {
        numbers.push(`redundancy ${data.redundancy[i].toPrecision(3)} (above ${Math.round(100 * data.percentile[i])} %)`);
      }
      if (data.walk) numbers.push(`pick ${data.pick[i] + 1}`);
      this.part("where").textContent = `Token ${i}: ${core.where(data, i)}`;
      this.part("numbers").textContent = numbers.join("  ·  ");
      this.part("why").textContent = core.why(data, this.kept, i) +
        (near.length ? ` Its ${near.length} closest look-alikes are marked.` : "");
      this.root.dataset.near = near.join(",");
      window.ScriptPaint.crop(this, this.part("crop"), picture);
      if (aloud) this.say(`${this.part("where").textContent}. ${this.part("numbers").textContent}. ${this.part("why").textContent}`, 120);
    }

    near(i) {
      if (!this.data.neighbours) return [];
      return [...this.data.neighbours.subarray(4 * i, 4 * i + 4)].filter((j) => j !== 65535);
    }

    say(text, wait) {
      clearTimeout(this.saying);
      this.saying = setTimeout(() => { this.part("live").textContent = text; }, wait);
    }
  }

  function mount(element, tools) {
    const grid = new Grid(element, tools);
    grids.set(grid.id, grid);
    return grid;
  }

  return { mount, get: (id) => grids.get(id), picture };
})();
