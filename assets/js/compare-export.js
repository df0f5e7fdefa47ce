/* The comparison as files: a CSV, and a PNG of all cells drawn from their own canvases. */
window.ScriptCompareExport = (() => {
  "use strict";

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  const saveText = (text, name) => save(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }), name);

  /* Words of a paragraph in lines of at most `width` pixels; what is more than `most` lines ends in dots. */
  function lines(ctx, text, width, most) {
    const found = [];
    let line = "";
    for (const word of String(text).split(/\s+/)) {
      const longer = line ? `${line} ${word}` : word;
      if (line && ctx.measureText(longer).width > width) { found.push(line); line = word; } else line = longer;
    }
    found.push(line);
    if (found.length > most) found.splice(most, Infinity, found.length > most ? "..." : "");
    return found;
  }

  function savePicture(value, cells, figures, name) {
    const columns = Math.min(4, Math.max(1, cells.length));
    const [wide, pad, scale] = [300, 16, 2];
    const tall = Math.max(...cells.map((cell) => ratio(cell) * wide), 120);
    const height = 30 + tall + 62 + 17 * figures.length + 14;
    const rows = Math.ceil(cells.length / columns);
    const canvas = document.createElement("canvas");
    const width = columns * (wide + pad) + pad;
    const head = 74;
    [canvas.width, canvas.height] = [width * scale, (head + rows * (height + pad) + 30) * scale];
    const ctx = canvas.getContext("2d");
    ctx.scale(scale, scale);
    ctx.fillStyle = "#ffffff";
    ctx.fillRect(0, 0, width, canvas.height / scale);
    write(ctx, `${value.question}`, pad, 28, "600 18px sans-serif", "#0f172a", width - 2 * pad, 1);
    write(ctx, `Budget: ${value.budget} tokens on average. All tokens answer: ${value.full.text}`, pad, 50, "14px sans-serif", "#334155", width - 2 * pad, 1);
    cells.forEach((cell, at) => {
      draw(ctx, cell, figures, pad + (at % columns) * (wide + pad), head + Math.floor(at / columns) * (height + pad), wide, tall);
    });
    write(ctx, `${value.model}. Script: visual token pruning.`, pad, canvas.height / scale - 14, "12px sans-serif", "#475569", width - 2 * pad, 1);
    return new Promise((resolve) => canvas.toBlob((blob) => { save(blob, name); resolve(); }, "image/png"));
  }

  const visible = (cell) => cell.drawn && cell.grid.canvas.width > 0;
  const ratio = (cell) => (visible(cell) ? cell.grid.canvas.height / cell.grid.canvas.width : 0.4);

  function draw(ctx, cell, figures, x, y, wide, tall) {
    write(ctx, cell.cell.title, x, y + 16, "600 15px sans-serif", "#0f172a", wide, 1);
    if (visible(cell)) ctx.drawImage(cell.grid.canvas, x, y + 26, wide, wide * ratio(cell));
    else write(ctx, cell.cell.reason || cell.cell.state, x, y + 46, "13px sans-serif", "#7f1d1d", wide, 6);
    let at = y + 26 + tall + 20;
    write(ctx, cell.cell.text || "", x, at, "600 14px sans-serif", cell.cell.same === false ? "#9a3412" : "#0f172a", wide, 2);
    at += 38;
    if (cell.cell.state !== "done") return;
    figures.forEach((figure) => {
      write(ctx, figure.label, x, at, "12px sans-serif", "#475569", wide * 0.6, 1);
      write(ctx, figure.words(cell.cell[figure.key]), x + wide * 0.6, at, "12px sans-serif", "#0f172a", wide * 0.4, 1);
      at += 17;
    });
  }

  function write(ctx, text, x, y, font, colour, width, most) {
    ctx.font = font;
    ctx.fillStyle = colour;
    lines(ctx, text, width, most).forEach((line, i) => ctx.fillText(line, x, y + 18 * i, width));
  }

  return { saveText, savePicture };
})();
