/* The player below a video's token canvas: scrubber, timeline, thumbnails. It moves the canvas to a frame and reads
   from it which tokens are kept; frames are loaded once, so that scrubbing asks the server for nothing. */
window.ScriptVideo = (() => {
  "use strict";
  const core = window.ScriptVideoCore;
  const HEIGHT = 84;
  const EDGE = { left: 6, right: 6, top: 15, bottom: 15 };

  class Player {
    constructor(element, { props }) {
      this.root = element.querySelector(".vp");
      this.part = (name) => this.root.querySelector(`[data-part="${name}"]`);
      this.id = props.grid_id;
      this.place = 0;
      this.media = "";
      this.listen();
      this.update();
    }

    listen() {
      const line = this.part("line");
      document.addEventListener("script:kept", (event) => { if (event.detail.grid === this.id) this.update(); });
      this.part("back").addEventListener("click", () => this.step(-1));
      this.part("next").addEventListener("click", () => this.step(1));
      this.part("play").addEventListener("click", () => this.toggle());
      this.part("jump").addEventListener("click", () => this.show(this.target));
      this.root.addEventListener("keydown", (event) => this.key(event));
      line.addEventListener("pointerdown", (event) => {
        line.setPointerCapture(event.pointerId);
        this.halt();
        this.show(this.under(event));
      });
      line.addEventListener("pointermove", (event) => { if (event.buttons) this.show(this.under(event)); });
      new ResizeObserver(() => this.draw()).observe(line);
      new MutationObserver(() => this.draw()).observe(document.body, { attributeFilter: ["class"] });
    }

    /* Other tokens are kept, or another video is open. */
    update() {
      this.grid = window.ScriptGrid.get(this.id);
      const data = this.grid && this.grid.data;
      this.data = data && data.places && data.places.length ? data : null;
      this.root.classList.toggle("vp-blank", !this.data);
      if (!this.data) {
        this.halt();
        this.media = "";
        this.root.dataset.places = "0";
        return;
      }
      this.counts = core.bars(this.data, this.grid.kept.mask);
      if (this.data.media !== this.media) this.open();
      const { text, place } = core.headline(this.data, this.counts);
      this.target = place;
      this.part("most").textContent = text;
      this.part("jump").hidden = place < 0;
      Object.assign(this.root.dataset, {
        places: this.counts.length, bars: this.counts.join(","), most: place, line: this.data.line.join(","),
      });
      this.show(Math.min(this.place, this.counts.length - 1));
    }

    /* A new video: load every frame now, and begin at the first. */
    open() {
      this.halt();
      this.media = this.data.media;
      this.place = 0;
      this.root.dataset.loaded = "0";
      const media = this.media;
      this.data.places.forEach((_, index) => {
        const count = () => { if (this.media === media) this.root.dataset.loaded = Number(this.root.dataset.loaded) + 1; };
        if (window.ScriptGrid.picture(this.address(index), count)) count();
      });
      this.part("thumbs").replaceChildren(...this.data.places.map((_, index) => this.thumb(index)));
      this.part("line").setAttribute("aria-valuemax", this.data.places.length);
    }

    address(index) {
      return this.data.images[this.data.blocks[this.data.places[index].block].image].url;
    }

    thumb(index) {
      const made = document.createElement("button");
      made.type = "button";
      made.className = "vp-thumb";
      made.setAttribute("aria-label", `${core.named(this.data, index)}, ${core.seconds(this.data.places[index].time)}`);
      const picture = document.createElement("img");
      picture.src = this.address(index);
      picture.alt = "";
      made.append(picture);
      made.addEventListener("click", () => { this.halt(); this.show(index); });
      return made;
    }

    /* ---- moving ------------------------------------------------------------------------------------------- */

    show(index) {
      if (!this.data || index < 0 || index >= this.data.places.length) return;
      this.place = index;
      this.grid.setFrame(index);
      const text = core.now(this.data, this.counts, index);
      const line = this.part("line");
      this.part("now").textContent = text;
      line.setAttribute("aria-valuenow", index + 1);
      line.setAttribute("aria-valuetext", text);
      this.root.dataset.frame = index;
      [...this.part("thumbs").children].forEach((thumb, i) => {
        thumb.setAttribute("aria-pressed", String(i === index));
        thumb.tabIndex = i === index ? 0 : -1;
        if (i === index) within(this.part("thumbs"), thumb);
      });
      this.draw();
    }

    step(by) {
      this.halt();
      if (this.data) this.show(Math.max(0, Math.min(this.data.places.length - 1, this.place + by)));
    }

    toggle() {
      if (this.playing) this.halt();
      else if (this.data) {
        if (this.place === this.data.places.length - 1) this.show(0);
        this.root.dataset.playing = "true";
        this.part("play").setAttribute("aria-label", "Pause");
        this.tick();
      }
    }

    /* At the video's own speed, as far as the eye can follow. */
    tick() {
      const { places } = this.data;
      if (this.place >= places.length - 1) {
        this.halt();
        return;
      }
      const gap = 1000 * (places[this.place + 1].time - places[this.place].time);
      this.playing = setTimeout(() => {
        this.show(this.place + 1);
        this.tick();
      }, Math.max(80, Math.min(700, gap)));
    }

    halt() {
      clearTimeout(this.playing);
      this.playing = 0;
      this.root.dataset.playing = "false";
      this.part("play").setAttribute("aria-label", "Play");
    }

    key(event) {
      if (!this.data || event.ctrlKey || event.metaKey || event.altKey) return;
      const last = this.data.places.length - 1;
      const leap = Math.max(1, Math.round(last / 8));
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -leap, PageUp: leap, Home: -last, End: last };
      const held = event.target.classList.contains("vp-thumb");
      if (steps[event.key]) {
        event.preventDefault();
        this.step(steps[event.key]);
        if (held) this.part("thumbs").children[this.place].focus();
      } else if (event.key === " " && event.target === this.part("line")) {
        event.preventDefault();
        this.toggle();
      }
    }

    under(event) {
      const box = this.part("line").getBoundingClientRect();
      const share = (event.clientX - box.left - EDGE.left) / (box.width - EDGE.left - EDGE.right);
      return Math.max(0, Math.min(this.data ? this.data.places.length - 1 : 0, Math.floor(share * (this.data ? this.data.places.length : 1))));
    }

    /* ---- drawing ------------------------------------------------------------------------------------------ */

    draw() {
      const canvas = this.part("line");
      const width = canvas.clientWidth;
      if (!this.data || !width) return;
      const ratio = window.devicePixelRatio || 1;
      const size = [Math.round(width * ratio), Math.round(HEIGHT * ratio)];
      if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
      const ctx = canvas.getContext("2d");
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, width, HEIGHT);
      const style = getComputedStyle(this.root);
      const look = (name) => style.getPropertyValue(name).trim();
      const pitch = (width - EDGE.left - EDGE.right) / this.counts.length;
      const floor = HEIGHT - EDGE.bottom;
      const tall = floor - EDGE.top;
      const middle = (i) => EDGE.left + (i + 0.5) * pitch;
      this.bars(ctx, { pitch, floor, tall, look });
      ctx.strokeStyle = ctx.fillStyle = look("--vp-curve");
      ctx.lineWidth = 2;
      ctx.beginPath();
      this.data.line.forEach((value, i) => ctx.lineTo(middle(i), floor - value * tall));
      ctx.stroke();
      this.data.line.forEach((value, i) => {
        ctx.beginPath();
        ctx.arc(middle(i), floor - value * tall, pitch < 12 ? 1.5 : 2.5, 0, 7);
        ctx.fill();
      });
      this.labels(ctx, { width, floor, style });
    }

    bars(ctx, { pitch, floor, tall, look }) {
      const most = Math.max(1, ...this.counts);
      const gap = Math.min(4, pitch * 0.2);
      this.counts.forEach((count, i) => {
        const x = EDGE.left + i * pitch;
        if (i === this.place) {
          ctx.fillStyle = look("--vp-here");
          ctx.fillRect(x, EDGE.top - 3, pitch, tall + 6);
        }
        ctx.fillStyle = i === this.place ? look("--kept") : look("--vp-bar");
        ctx.fillRect(x + gap / 2, floor - (count / most) * tall, pitch - gap, (count / most) * tall);
      });
    }

    labels(ctx, { width, floor, style }) {
      const { places } = this.data;
      ctx.fillStyle = style.color;
      ctx.font = "11px system-ui, sans-serif";
      ctx.textBaseline = "top";
      ctx.textAlign = "left";
      ctx.fillText(`most: ${Math.max(...this.counts)} tokens`, EDGE.left, 0);
      ctx.fillText(core.seconds(places[0].time), EDGE.left, floor + 3);
      ctx.textAlign = "right";
      ctx.fillText("relevance 0 to 1", width - EDGE.right, 0);
      ctx.fillText(core.seconds(places[places.length - 1].time), width - EDGE.right, floor + 3);
    }
  }

  /* Scroll a strip, and nothing but the strip, until one of its children is in sight. */
  function within(strip, child) {
    const [left, right] = [child.offsetLeft - strip.offsetLeft, child.offsetLeft - strip.offsetLeft + child.offsetWidth];
    if (left < strip.scrollLeft) strip.scrollLeft = left;
    else if (right > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = right - strip.clientWidth;
  }

  return { mount: (element, tools) => new Player(element, tools) };
})();
