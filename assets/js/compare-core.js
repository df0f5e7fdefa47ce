/* What the comparison says about its cells, without a page: figures, their words, orders, and the CSV file. */
window.ScriptCompareCore = (() => {
  "use strict";

  const scaled = (value, step, names) => {
    let place = 0;
    while (value >= step && place < names.length - 1) { value /= step; place++; }
    return `${value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3))} ${names[place]}`;
  };
  const nats = (x) => (x === 0 ? "0" : x < 0.0005 ? "< 0.001" : x < 10 ? x.toFixed(3) : x.toFixed(1));
  const ms = (x) => (x === null ? "-" : x >= 1000 ? `${(x / 1000).toFixed(2)} s` : `${x < 10 ? x.toFixed(1) : x.toFixed(0)} ms`);
  const count = (x) => Number(x.toFixed(1)).toLocaleString("en");

  /* key, heading, words, and what it is. `better` is the direction that a reader looks for first. */
  const FIGURES = [
    ["kl_first", "KL, first token", nats, "KL(full || pruned) of the first answer token, in nats; measured"],
    ["kl_answer", "KL, mean", nats, "mean KL(full || pruned) over the full answer, both fed its tokens, in nats; measured"],
    ["agreement", "Same choices", (x) => `${Math.round(100 * x)} %`, "share of the full answer's tokens that the pruned model would choose, too; measured"],
    ["average", "Average tokens", count, "mean over layers of the visual tokens entering the layer; counted in this run"],
    ["claimed", "Authors' count", (x) => (x === null ? "no count" : count(x)), "the count in the name that the authors' own convention gives to this run"],
    ["paper_flops", "FLOPs", (x) => scaled(x, 1000, ["", "k", "M", "G", "T", "P"]), "prefill of the visual tokens by the papers' formula, one per multiply-add; computed"],
    ["select_ms", "Select", ms, "time to choose the tokens; measured once"],
    ["prefill_ms", "Prefill", ms, "time of the language model up to the first token; measured once"],
    ["decode_ms", "Decode", ms, "mean time of each further token; measured once"],
    ["kv_bytes", "KV cache", (x) => scaled(x, 1024, ["B", "KiB", "MiB", "GiB"]), "keys and values after the prefill, text included; measured"],
  ].map(([key, label, words, what]) => ({ key, label, words, what }));
  const SORTS = [{ key: "given", label: "Order given" }, { key: "title", label: "Method" }, { key: "same", label: "Same answer" }, ...FIGURES];

  /* Cells in order; those without the figure come last whatever the direction, ties stay as given. */
  function sorted(cells, key, down) {
    const list = cells.map((cell, at) => ({ cell, at }));
    const missing = (v) => v === undefined || v === null;
    const sign = down ? -1 : 1;
    list.sort((a, b) => {
      const [x, y] = [a.cell[key], b.cell[key]];
      if (key === "given") return sign * (a.at - b.at);
      if (missing(x) || missing(y)) return missing(x) - missing(y) || a.at - b.at;
      const order = typeof x === "string" ? x.localeCompare(y) : Number(x) - Number(y);
      return sign * order || a.at - b.at;
    });
    return list.map(({ cell }) => cell);
  }

  const STATES = { waiting: "waiting", running: "answering ...", unavailable: "not available", failed: "failed", stopped: "stopped" };
  const badge = (cell) => (cell.state === "done" ? (cell.same ? "\u2713 same answer" : "\u2260 different answer") : STATES[cell.state]);

  /* A field of the file. Text that a spreadsheet would run as a formula gets an apostrophe. */
  function field(value) {
    if (value === undefined || value === null) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  const COLUMNS = ["method", "title", "state", "reason", "text", "same", ...FIGURES.map((f) => f.key), "flops", "configuration", "ours"];

  function csv(value, kept) {
    const head = ["model", "question", "budget", "full_answer", ...COLUMNS, "kept_tokens"];
    const lines = value.cells.map((cell) => [
      value.model, value.question, value.budget, value.full.text, ...COLUMNS.map((name) => cell[name]), kept(cell).join(" "),
    ]);
    return [head, ...lines].map((line) => line.map(field).join(",")).join("\r\n") + "\r\n";
  }

  return { FIGURES, SORTS, sorted, badge, csv, field };
})();
