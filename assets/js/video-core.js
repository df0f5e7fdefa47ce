/* The timeline of a video without a page: bars, the frame that keeps most, and their words. */
window.ScriptVideoCore = (() => {
  "use strict";

  /* How many tokens a mask keeps in each place of the timeline; tokens that stand for a whole frame are not in them. */
  const bars = (data, mask) => data.places.map((place) => (
    data.lookup[place.block].reduce((sum, i) => sum + (i >= 0 ? mask[i] : 0), 0)
  ));

  /* The first place that has most, or -1 where all have the same. */
  const most = (values) => (new Set(values).size < 2 ? -1 : values.indexOf(Math.max(...values)));

  const seconds = (time) => `${time.toFixed(time < 100 ? 1 : 0)} s`;

  /* "frame 3 of 8", or "frames 5-6 of 16" where a model merges two. */
  function named(data, index) {
    const numbers = data.places[index].frames.map((frame) => frame + 1);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    return `${low === high ? `frame ${low}` : `frames ${low}-${high}`} of ${data.frames}`;
  }

  const size = (data, index) => data.lookup[data.places[index].block].filter((i) => i >= 0).length;

  const now = (data, counts, index) => (
    `${upper(named(data, index))} \u00b7 ${seconds(data.places[index].time)} \u00b7 ${counts[index]} of ${size(data, index)} tokens kept`
  );

  /* {text, place}: where the kept tokens are, or, if every frame keeps as many, where the question's object is. */
  function headline(data, counts) {
    const kept = most(counts);
    const place = kept < 0 ? most(data.line) : kept;
    if (place < 0) return { text: "Every frame is the same to this question.", place: -1 };
    const where = `${named(data, place).replace(/ of .*/, "")} (${seconds(data.places[place].time)})`;
    return kept < 0
      ? { text: `Every frame keeps ${counts[0]} tokens. Most relevant: ${where}.`, place }
      : { text: `Most kept: ${where}, ${counts[place]} of ${size(data, place)} tokens.`, place };
  }

  const upper = (text) => text[0].toUpperCase() + text.slice(1);

  return { bars, most, named, now, headline, seconds };
})();
