/* The part of the token canvas that needs no page: decoding, the budget rule, colours and sentences.
   `keep` mirrors script_core's selection exactly; a test compares the two on many budgets. */
window.ScriptCore = (() => {
  "use strict";

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  /* null for what a payload does not have; "" is an empty array, as where a method keeps no token that has a place. */
  const typed = (Kind, text) => (typeof text === "string" ? new Kind(bytes(text).buffer) : null);

  /* A bitset -> indices: token i is bit i % 8, from the lowest, of byte i >> 3. */
  function fromBits(text) {
    const found = [];
    bytes(text).forEach((byte, at) => {
      for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) found.push(8 * at + bit);
    });
    return Uint16Array.from(found);
  }

  /* Python's round(): halves go to the even neighbour. */
  function roundHalfEven(x) {
    const floor = Math.floor(x);
    const rest = x - floor;
    if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
    return floor % 2 === 0 ? floor : floor + 1;
  }

  /* A budget dealt evenly over groups: the remainder goes to the first, what a group cannot hold goes on. */
  function splitBudget(budget, sizes) {
    const shares = sizes.map(() => 0);
    let left = Math.min(budget, sizes.reduce((a, b) => a + b, 0));
    while (left > 0) {
      const open = sizes.map((_, i) => i).filter((i) => shares[i] < sizes[i]);
      const each = Math.floor(left / open.length);
      const extra = left % open.length;
      open.forEach((i, place) => {
        const given = Math.min(each + (place < extra ? 1 : 0), sizes[i] - shares[i]);
        shares[i] += given;
        left -= given;
      });
    }
    return shares;
  }

  /* Payload from the server -> typed arrays, once per payload. */
  function decode(value) {
    const n = value.n;
    const data = {
      ...value,
      block: typed(Uint16Array, value.block),
      row: typed(Uint16Array, value.row),
      col: typed(Uint16Array, value.col),
      relevance: typed(Float32Array, value.relevance),
      redundancy: typed(Float32Array, value.redundancy),
      neighbours: typed(Uint16Array, value.neighbours),
      likeness: typed(Uint8Array, value.likeness),
      walk: typed(Uint16Array, value.walk),
      rank: typed(Uint16Array, value.rank),
      kept: value.bits ? fromBits(value.bits) : typed(Uint16Array, value.kept),
      group: new Uint16Array(n),
      pick: new Int32Array(n).fill(-1),
      percentile: percentiles(typed(Float32Array, value.redundancy)),
    };
    data.lookup = data.blocks.map((b) => new Int32Array(b.rows * b.cols).fill(-1));
    for (let i = 0; i < n; i++) {
      data.lookup[data.block[i]][data.row[i] * data.blocks[data.block[i]].cols + data.col[i]] = i;
    }
    if (data.walk) {
      let at = 0;
      value.groups.forEach((size, g) => {
        for (let place = 0; place < size; place++, at++) {
          data.group[data.walk[at]] = g;
          data.pick[data.walk[at]] = place;
        }
      });
    }
    return data;
  }

  /* Whether a token of one payload is at the same place in another: same picture, cut up the same way. */
  const alike = (one, other) => one.media === other.media && one.n === other.n &&
    JSON.stringify(one.blocks) === JSON.stringify(other.blocks);

  /* Whether the budget has a say: without pruning every token stays, whatever a slider says. */
  const pruned = (data) => data.method !== "full";

  /* Share of tokens that are strictly less redundant, so that a heavy tail does not hide the map. */
  function percentiles(values) {
    if (!values) return null;
    const sorted = Float32Array.from(values).sort();
    const result = new Float32Array(values.length);
    for (let i = 0; i < values.length; i++) {
      let low = 0;
      let high = sorted.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (sorted[middle] < values[i]) low = middle + 1;
        else high = middle;
      }
      result[i] = sorted.length > 1 ? low / (sorted.length - 1) : 0;
    }
    return result;
  }

  /* Which tokens stay at a budget: {mask, count, survivors per group, last pick walked per group}. */
  function keep(data, budget) {
    const mask = new Uint8Array(data.n);
    if (!data.walk) {
      data.kept.forEach((i) => { mask[i] = 1; });
      return { mask, count: data.kept.length, survivors: null, walked: null };
    }
    const shares = splitBudget(budget, data.groups);
    const survivors = [];
    const walked = [];
    let start = 0;
    let count = 0;
    let lowered = false;
    data.groups.forEach((size, g) => {
      const alive = data.rank ? size - Math.min(roundHalfEven(data.p * size), size - shares[g]) : size;
      if (data.rank && alive > size - roundHalfEven(data.p * size)) lowered = true;
      let taken = 0;
      let place = 0;
      for (; place < size && taken < shares[g]; place++) {
        const token = data.walk[start + place];
        if (data.rank && data.rank[token] >= alive) continue;
        mask[token] = 1;
        taken++;
      }
      survivors.push(alive);
      walked.push(place);
      count += taken;
      start += size;
    });
    return { mask, count, survivors, walked, lowered };
  }

  const MAPS = {
    viridis: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
    cividis: ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"],
  };
  const TABLES = Object.fromEntries(Object.entries(MAPS).map(([name, stops]) => {
    const rgb = stops.map((s) => [0, 2, 4].map((k) => parseInt(s.slice(k, k + 2), 16)));
    return [name, Array.from({ length: 64 }, (_, i) => {
      const x = (i / 63) * (rgb.length - 1);
      const a = rgb[Math.floor(x)];
      const b = rgb[Math.min(rgb.length - 1, Math.floor(x) + 1)];
      return "rgb(" + a.map((v, k) => Math.round(v + (b[k] - v) * (x % 1))).join(",") + ")";
    })];
  }));
  const colour = (map, x) => TABLES[map][Math.max(0, Math.min(63, Math.round(x * 63)))];
  const gradient = (map) => "linear-gradient(90deg," + MAPS[map].map((s) => "#" + s).join(",") + ")";

  /* The rectangle of a token, or of a whole block, in fractions of the picture. */
  function tokenBox(data, i) {
    const b = data.blocks[data.block[i]];
    const w = (b.box[2] - b.box[0]) / b.cols;
    const h = (b.box[3] - b.box[1]) / b.rows;
    return [b.box[0] + data.col[i] * w, b.box[1] + data.row[i] * h, w, h];
  }

  const PLACES = ["upper left", "top", "upper right", "left", "centre", "right", "lower left", "bottom", "lower right"];

  /* "64 of 576 kept (11 %), densest in the upper right": the words that stand for the picture. */
  function summary(data, state) {
    const share = Math.round((100 * state.count) / Math.max(1, data.n));
    let text = `${state.count} of ${data.n} tokens kept (${share} %)`;
    if (state.count === 0 || state.count === data.n) return text;
    const inside = new Float64Array(9);
    const all = new Float64Array(9);
    for (let i = 0; i < data.n; i++) {
      const [x, y, w, h] = tokenBox(data, i);
      const third = (v) => Math.max(0, Math.min(2, Math.floor(v * 3)));
      const cell = third(y + h / 2) * 3 + third(x + w / 2);
      all[cell]++;
      inside[cell] += state.mask[i];
    }
    const density = inside.map((v, k) => v / Math.max(1, all[k]));
    const most = density.indexOf(Math.max(...density));
    if (density[most] > (1.2 * state.count) / data.n) {
      text += `, densest ${most === 4 ? "in the" : most === 1 || most === 7 ? "at the" : most === 3 || most === 5 ? "on the" : "in the"} ${PLACES[most]}`;
    }
    return text;
  }

  function where(data, i) {
    const b = data.blocks[data.block[i]];
    const same = data.blocks.filter((other) => other.kind === b.kind);
    let text = `Row ${data.row[i] + 1}, column ${data.col[i] + 1}`;
    if (b.kind === "tile") text += ` of tile ${same.indexOf(b) + 1}`;
    else if (b.kind === "frame") text += ` of frame ${same.indexOf(b) + 1}`;
    else if (data.blocks.length > 1) text += " of the whole-picture crop";
    return text;
  }

  /* Why a token stayed or went, as one sentence. */
  function why(data, state, i) {
    if (!data.walk) {
      return state.mask[i] ? `Kept by ${data.title}.` : `Dropped by ${data.title} at this budget.`;
    }
    const g = data.group[i];
    const size = data.groups[g];
    const pick = data.pick[i] + 1;
    if (state.count === data.n) return "Kept: the budget holds every token.";
    if (data.rank && data.rank[i] >= state.survivors[g]) {
      return `Dropped by the redundancy graph: among the ${size - state.survivors[g]} of ${size} tokens that repeat ` +
        `their look-alikes the most${pick <= state.walked[g] ? ` (it would have been pick ${pick})` : ""}.`;
    }
    if (state.mask[i]) {
      return data.greedy
        ? `Kept: pick ${pick} of the greedy walk; it adds what earlier picks do not show, weighted by the question.`
        : `Kept: place ${pick} of ${size} in ${data.title}'s order.`;
    }
    return data.greedy
      ? `Dropped at this budget: only pick ${pick} of the greedy walk, which ends at pick ${state.walked[g]}.`
      : `Dropped at this budget: place ${pick} of ${size} in ${data.title}'s order.`;
  }

  return { decode, alike, pruned, keep, splitBudget, roundHalfEven, colour, gradient, tokenBox, summary, where, why };
})();
