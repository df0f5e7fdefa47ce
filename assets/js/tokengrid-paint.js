/* Pixels of the token canvas: kept tokens bright with an outline, dropped ones veiled; score maps; the marked token. */
window.ScriptPaint = (() => {
  "use strict";
  const core = window.ScriptCore;

  function palette() {
    const dark = document.body.classList.contains("dark");
    return dark
      ? { veil: "9,14,24", edge: "#5eead4", halo: "rgba(4,10,14,.85)", empty: "#1f2937", seam: "#f8fafc", near: "#fbbf24" }
      : { veil: "248,250,252", edge: "#0f766e", halo: "rgba(255,255,255,.9)", empty: "#e5e7eb", seam: "#0f172a", near: "#b45309" };
  }

  function draw(grid, picture) {
    const { canvas, context: ctx, layout, data } = grid;
    const ratio = window.devicePixelRatio || 1;
    const width = grid.part("stage").clientWidth;
    canvas.style.height = `${layout.height}px`;
    const size = [Math.round(width * ratio), Math.round(layout.height * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, layout.height);
    const colours = palette();
    layout.views.forEach((view) => {
      const source = data.images[data.blocks[view.members[0]].image || 0];
      background(grid, view, picture(source && source.url, () => grid.schedule()), colours);
      if (grid.layer !== "original") tokens(grid, view, colours);
      seams(grid, view, colours);
      if (layout.views.length > 1) caption(grid, view);
    });
    if (grid.token >= 0) marks(grid, colours);
  }

  function background(grid, view, image, colours) {
    const ctx = grid.context;
    ctx.fillStyle = colours.empty;
    ctx.fillRect(view.x, view.y, view.w, view.h);
    if (!image) return;
    const [x, y] = grid.place(view, 0, 0);
    const [r, b] = grid.place(view, 1, 1);
    ctx.drawImage(image, x, y, r - x, b - y);
  }

  function tokens(grid, view, colours) {
    const { context: ctx, data, layer, opacity } = grid;
    const mask = grid.kept.mask;
    const members = new Set(view.members);
    const inner = new Path2D();
    const veiled = new Path2D();  // one fill, so that neighbours do not darken each other's edge
    for (let i = 0; i < data.n; i++) {
      if (!members.has(data.block[i])) continue;
      const [x, y, w, h] = snapped(grid.rectangle(view, i));
      if (layer === "retained") {
        if (!mask[i]) veiled.rect(x, y, w, h);
      } else {
        const value = layer === "relevance" ? data.relevance && data.relevance[i] : data.percentile && data.percentile[i];
        if (value === null || value === undefined) continue;
        ctx.globalAlpha = opacity;
        ctx.fillStyle = core.colour(layer === "relevance" ? "viridis" : "cividis", value);
        ctx.fillRect(x, y, w, h);
        ctx.globalAlpha = 1;
      }
      if (mask[i]) borders(data, mask, i, [x, y, w, h], inner);
    }
    ctx.fillStyle = `rgba(${colours.veil},${opacity})`;
    ctx.fill(veiled);
    const fine = view.w / (view.members.length > 1 ? 48 : 24) < 9;
    ctx.lineWidth = fine ? 2 : 3;
    ctx.strokeStyle = colours.halo;
    ctx.stroke(inner);
    ctx.lineWidth = fine ? 1 : 1.5;
    ctx.strokeStyle = colours.edge;
    ctx.stroke(inner);
  }

  /* On whole device pixels neighbours meet without a seam. */
  function snapped([x, y, w, h]) {
    const ratio = window.devicePixelRatio || 1;
    const at = (v) => Math.round(v * ratio + 1e-3) / ratio;  // one token's end and the next one's start agree
    return [at(x), at(y), at(x + w) - at(x), at(y + h) - at(y)];
  }

  /* Only the sides that face a dropped token: kept regions get one outline instead of a mesh. */
  function borders(data, mask, i, [x, y, w, h], path) {
    const b = data.blocks[data.block[i]];
    const kept = (row, col) => {
      if (row < 0 || col < 0 || row >= b.rows || col >= b.cols) return false;
      const j = data.lookup[data.block[i]][row * b.cols + col];
      return j >= 0 && mask[j] === 1;
    };
    const [row, col] = [data.row[i], data.col[i]];
    if (!kept(row - 1, col)) { path.moveTo(x, y); path.lineTo(x + w, y); }
    if (!kept(row + 1, col)) { path.moveTo(x, y + h); path.lineTo(x + w, y + h); }
    if (!kept(row, col - 1)) { path.moveTo(x, y); path.lineTo(x, y + h); }
    if (!kept(row, col + 1)) { path.moveTo(x + w, y); path.lineTo(x + w, y + h); }
  }

  function seams(grid, view, colours) {
    if (view.members.length < 2) return;
    const ctx = grid.context;
    ctx.strokeStyle = colours.seam;
    ctx.lineWidth = 2;
    view.members.forEach((m) => {
      const box = grid.data.blocks[m].box;
      const [x, y] = grid.place(view, box[0], box[1]);
      const [r, b] = grid.place(view, box[2], box[3]);
      ctx.strokeRect(x, y, r - x, b - y);
    });
  }

  /* With two drawings of one picture, say which is which. */
  function caption(grid, view) {
    const ctx = grid.context;
    const { data } = grid;
    const count = view.members.reduce((sum, m) => sum + data.lookup[m].filter((i) => i >= 0).length, 0);
    const what = view.members.length > 1 ? `${view.members.length} tiles` : "whole picture";
    ctx.fillStyle = getComputedStyle(grid.root).color;
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "top";
    ctx.fillText(what, view.x, view.y + view.h + 4, Math.max(view.w, 60));
    ctx.fillText(`${count.toLocaleString("en")} tokens`, view.x, view.y + view.h + 17, Math.max(view.w, 60));
  }

  function frame(ctx, [x, y, w, h], colour, halo, dashed) {
    ctx.setLineDash([]);
    ctx.lineWidth = 5;
    ctx.strokeStyle = halo;
    ctx.strokeRect(x - 1, y - 1, w + 2, h + 2);
    ctx.setLineDash(dashed ? [4, 2] : []);
    ctx.lineWidth = 2.5;
    ctx.strokeStyle = colour;
    ctx.strokeRect(x - 1, y - 1, w + 2, h + 2);
    ctx.setLineDash([]);
  }

  function marks(grid, colours) {
    const view = grid.viewOf(grid.token);
    if (!view) return;
    grid.near(grid.token).forEach((j) => {
      const other = grid.viewOf(j);
      if (other) frame(grid.context, grid.rectangle(other, j), colours.near, colours.halo, true);
    });
    frame(grid.context, grid.rectangle(view, grid.token), colours.seam, colours.halo, false);
  }

  /* The marked token with one token of surroundings, in the card. */
  function crop(grid, canvas, picture) {
    const { data, token } = grid;
    const source = data.images[data.blocks[data.block[token]].image || 0];
    const image = picture(source && source.url, () => crop(grid, canvas, picture));
    const ctx = canvas.getContext("2d");
    ctx.fillStyle = palette().empty;
    ctx.fillRect(0, 0, canvas.width, canvas.height);
    if (!image || token < 0) return;
    const [x, y, w, h] = core.tokenBox(data, token);
    const [iw, ih] = [image.naturalWidth, image.naturalHeight];
    ctx.imageSmoothingEnabled = true;
    ctx.drawImage(image, (x - w) * iw, (y - h) * ih, 3 * w * iw, 3 * h * ih, 0, 0, canvas.width, canvas.height);
    const third = canvas.width / 3;
    frame(ctx, [third, third, third, third], palette().seam, palette().halo, false);
  }

  return { draw, crop };
})();
