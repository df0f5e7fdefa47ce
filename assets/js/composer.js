/* A scene put together by hand: stickers from a palette, on a stage, by mouse, touch or keyboard.
   The server draws what is sent to it; what is seen here is only a preview. */
window.ScriptComposer = (() => {
  "use strict";

  const STEP = 0.02;
  const GROW = 1.12;
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const round = (x) => Math.round(x * 1000) / 1000;

  class Composer {
    constructor(element, { props, trigger, watch }) {
      this.props = props;
      this.trigger = trigger;
      this.root = element.querySelector(".cps");
      this.part = (name) => this.root.querySelector(`[data-part="${name}"]`);
      this.items = [];
      this.chosen = -1;
      this.colour = "red";
      this.picked = null;
      this.bind();
      watch("value", () => this.receive(props.value));
      this.receive(props.value);
    }

    receive(value) {
      if (!value || !value.sheet || this.value) return;
      this.value = value;
      this.root.style.setProperty("--cps-sheet", `url("${value.sheet.url}")`);
      this.root.style.setProperty("--cps-grounds", `url("${value.grounds.url}")`);
      this.part("background").replaceChildren(...value.backgrounds.map((name) => new Option(name, name)));
      const words = Object.keys(value.words).map((word) => new Option(word, word));
      this.part("word").replaceChildren(new Option("none", ""), ...words);
      this.part("colours").replaceChildren(...Object.entries(value.colours).map((entry) => this.swatch(entry)));
      this.part("palette").replaceChildren(
        ...Object.entries(value.kinds).flatMap(([kind, names]) => names.map((name) => this.choice(name, kind))),
      );
      this.draw();
    }

    /* ---- the palette ---- */

    swatch([name, paint]) {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: `${this.props.elem_id || "cps"}-colour`, value: name });
      input.checked = name === this.colour;
      input.addEventListener("change", () => this.tint(name));
      const dot = document.createElement("i");
      dot.style.background = paint;
      label.append(input, dot, name);
      return label;
    }

    choice(name, kind) {
      const made = document.createElement("button");
      made.type = "button";
      made.title = name;
      made.dataset.sticker = name;
      made.dataset.words = [name, kind, this.value.also[name] || ""].join(" ").toLowerCase();
      made.setAttribute("aria-label", `Place ${this.spoken(this.fresh(name))}`);
      made.append(this.sprite(this.fresh(name)));
      made.addEventListener("click", () => this.add(name));
      return made;
    }

    fresh(name) {
      return { name, colour: this.value.tintable.includes(name) ? this.colour : null };
    }

    spoken({ name, colour, text }) {
      return text ? `the word ${text}` : [colour, name].filter(Boolean).join(" ");
    }

    sprite({ name, colour }) {
      const cell = this.value.cells[colour ? `${name}/${colour}` : name];
      const { columns } = this.value;
      const rows = Math.ceil(Object.keys(this.value.cells).length / columns);
      const made = document.createElement("span");
      made.className = "cps-sprite";
      made.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
      made.style.backgroundPosition =
        `${(100 * (cell % columns)) / (columns - 1)}% ${(100 * Math.floor(cell / columns)) / (rows - 1)}%`;
      return made;
    }

    tint(colour) {
      this.colour = colour;
      const item = this.items[this.chosen];
      if (item && item.colour) {
        item.colour = colour;
        this.say(`Now ${this.spoken(item)}.`);
      }
      this.part("palette").querySelectorAll("button").forEach((button) => {
        const look = this.fresh(button.dataset.sticker);
        if (!look.colour) return;
        button.replaceChildren(this.sprite(look));
        button.setAttribute("aria-label", `Place ${this.spoken(look)}`);
      });
      this.draw();
    }

    search(text) {
      const wanted = text.trim().toLowerCase();
      let found = 0;
      this.part("palette").querySelectorAll("button").forEach((button) => {
        button.hidden = !button.dataset.words.split(" ").some((word) => word.startsWith(wanted));
        found += button.hidden ? 0 : 1;
      });
      this.part("none").hidden = found > 0;
    }

    /* ---- the stage ---- */

    add(name, place) {
      const stickers = this.items.filter((item) => item.name).length;
      if (stickers >= this.value.limit) {
        this.say(`A scene holds ${this.value.limit} stickers; remove one first.`);
        return;
      }
      this.picked = name;
      const spot = place || this.free();
      this.items.push({ ...this.fresh(name), ...spot, size: 0.22, flip: false });
      this.chosen = this.items.length - 1;
      this.draw();
      this.say(`Placed ${this.spoken(this.items[this.chosen])}.`);
    }

    /* The centre farthest from what is there already, of a coarse grid. */
    free() {
      const spots = [];
      [0.5, 0.2, 0.8, 0.35, 0.65].forEach((y) => [0.5, 0.2, 0.8, 0.35, 0.65].forEach((x) => spots.push({ x, y })));
      const room = (spot) => Math.min(2, ...this.items.map((item) => Math.hypot(item.x - spot.x, item.y - spot.y)));
      return spots.reduce((best, spot) => (room(spot) > room(best) + 1e-6 ? spot : best));
    }

    write(text) {
      this.items = this.items.filter((item) => !item.text);
      if (text) this.items.push({ text, ...this.free(), size: 0.36 });
      this.chosen = this.items.length - 1;
      this.draw();
      this.say(text ? `Placed the word ${text}.` : "No word.");
    }

    draw() {
      if (!this.value) return;
      const stage = this.part("stage");
      const focused = stage.contains(document.activeElement) && document.activeElement.dataset.item;
      const at = this.value.backgrounds.indexOf(this.part("background").value);
      const { pad } = this.value; // each background continues a little beyond its edges, so that none shows the next
      const width = this.value.backgrounds.length * (1 + 2 * pad);
      stage.style.backgroundSize = `${100 * width}% 100%`;
      stage.style.backgroundPosition = `${(100 * (Math.max(at, 0) * (1 + 2 * pad) + pad)) / (width - 1)}% 0`;
      stage.querySelectorAll(".cps-item").forEach((node) => node.remove());
      stage.append(...this.items.map((item, i) => this.node(item, i)));
      if (focused !== undefined && focused !== false) this.focus();
      this.part("hint").hidden = this.items.length > 0;
      this.root.dataset.count = String(this.items.length);
      this.root.querySelectorAll(".cps-tools button").forEach((button) => { button.disabled = this.chosen < 0; });
      ["use", "clear"].forEach((act) => {
        this.root.querySelector(`[data-act="${act}"]`).disabled = !this.items.length;
      });
    }

    node(item, i) {
      const made = document.createElement("button");
      made.type = "button";
      made.className = "cps-item";
      made.dataset.item = String(i);
      made.setAttribute("aria-pressed", String(i === this.chosen));
      made.setAttribute("aria-label", this.described(item));
      if (item.text) {
        const width = item.size * this.part("stage").clientWidth;
        made.classList.add("cps-word");
        made.textContent = item.text;
        made.style.fontSize = `${width * this.value.words[item.text] * 0.62}px`;
        made.style.height = `${100 * item.size * this.value.words[item.text]}%`;
      } else {
        made.append(this.sprite(item));
        if (item.flip) made.firstChild.style.transform = "scaleX(-1)";
        made.style.height = `${100 * item.size}%`;
      }
      made.style.width = `${100 * item.size}%`;
      this.lay(made, item);
      return made;
    }

    lay(node, item) {
      node.style.left = `${100 * item.x}%`;
      node.style.top = `${100 * item.y}%`;
    }

    described(item) {
      const percent = (x) => `${Math.round(100 * x)} %`;
      return `${this.spoken(item)}, ${percent(item.x)} from the left, ${percent(item.y)} from the top, size ${percent(item.size)}`;
    }

    focus() {
      const node = this.part("stage").querySelector(`[data-item="${this.chosen}"]`);
      if (node) node.focus({ preventScroll: true });
    }

    choose(i) {
      this.chosen = i;
      this.part("stage").querySelectorAll(".cps-item").forEach((node) => {
        node.setAttribute("aria-pressed", String(Number(node.dataset.item) === i));
      });
      this.root.querySelectorAll(".cps-tools button").forEach((button) => { button.disabled = i < 0; });
    }

    act(name) {
      const item = this.items[this.chosen];
      if (name === "use") { this.use(); return; }
      if (name === "clear") { this.items = []; this.chosen = -1; this.part("word").value = ""; this.draw(); this.say("Cleared."); return; }
      if (!item) return;
      const [low, high] = item.text ? this.value.word_sizes : this.value.sizes;
      if (name === "smaller") item.size = clamp(item.size / GROW, low, high);
      if (name === "larger") item.size = clamp(item.size * GROW, low, high);
      if (name === "flip" && !item.text) item.flip = !item.flip;
      if (name === "front") this.chosen = this.items.push(...this.items.splice(this.chosen, 1)) - 1;
      if (name === "remove") {
        this.items.splice(this.chosen, 1);
        this.chosen = Math.min(this.chosen, this.items.length - 1);
        if (item.text) this.part("word").value = "";
      }
      this.draw();
      this.say(name === "remove" ? `Removed ${this.spoken(item)}.` : this.described(item));
    }

    key(event) {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const acts = { "+": "larger", "=": "larger", "-": "smaller", Delete: "remove", Backspace: "remove", f: "flip" };
      const item = this.items[this.chosen];
      if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) {
        const step = event.shiftKey ? 5 * STEP : STEP;
        item.x = clamp(item.x + moves[event.key][0] * step, 0, 1);
        item.y = clamp(item.y + moves[event.key][1] * step, 0, 1);
        const node = event.target.closest(".cps-item");
        this.lay(node, item);
        node.setAttribute("aria-label", this.described(item));
      } else if (acts[event.key]) {
        this.act(acts[event.key]);
        this.focus();
      } else {
        return;
      }
      event.preventDefault();
    }

    place(event) {
      const box = this.part("stage").getBoundingClientRect();
      return { x: clamp((event.clientX - box.left) / box.width, 0, 1), y: clamp((event.clientY - box.top) / box.height, 0, 1) };
    }

    grab(event, node) {
      const i = Number(node.dataset.item);
      const item = this.items[i];
      const start = this.place(event);
      const offset = { x: item.x - start.x, y: item.y - start.y };
      this.choose(i);
      node.setPointerCapture(event.pointerId);
      const move = (next) => {
        const to = this.place(next);
        item.x = clamp(to.x + offset.x, 0, 1);
        item.y = clamp(to.y + offset.y, 0, 1);
        this.lay(node, item);
      };
      const drop = () => {
        node.removeEventListener("pointermove", move);
        node.setAttribute("aria-label", this.described(item));
      };
      node.addEventListener("pointermove", move);
      node.addEventListener("pointerup", drop, { once: true });
      node.addEventListener("pointercancel", drop, { once: true });
    }

    use() {
      const stickers = this.items.filter((item) => item.name).map(({ name, colour, x, y, size, flip }) => (
        { name, colour, x: round(x), y: round(y), size: round(size), flip }));
      const text = this.items.find((item) => item.text);
      const word = text ? { text: text.text, x: round(text.x), y: round(text.y), size: round(text.size) } : null;
      this.say("");
      this.trigger("select", { index: 0, value: { background: this.part("background").value, stickers, word } });
    }

    say(text) {
      this.part("status").textContent = text;
    }

    bind() {
      const stage = this.part("stage");
      stage.addEventListener("pointerdown", (event) => {
        const node = event.target.closest(".cps-item");
        if (node) this.grab(event, node);
      });
      stage.addEventListener("click", (event) => {
        if (!this.value || event.target.closest(".cps-item")) return;
        if (this.picked) this.add(this.picked, this.place(event));
        else this.say("Pick a sticker from the list first.");
      });
      stage.addEventListener("focusin", (event) => {
        const node = event.target.closest(".cps-item");
        if (node) this.choose(Number(node.dataset.item));
      });
      stage.addEventListener("keydown", (event) => { if (event.target.closest(".cps-item")) this.key(event); });
      this.root.addEventListener("click", (event) => {
        const button = event.target.closest("[data-act]");
        if (button && this.value) this.act(button.dataset.act);
      });
      this.part("find").addEventListener("input", (event) => this.search(event.target.value));
      this.part("background").addEventListener("change", () => this.draw());
      this.part("word").addEventListener("change", (event) => this.write(event.target.value));
    }
  }

  return { mount: (element, tools) => new Composer(element, tools) };
})();
