/* Two answers side by side: from the kept tokens and from all. Says so when they no longer fit the settings. */
window.ScriptAnswers = (() => {
  "use strict";

  class Answers {
    constructor(element, { props, watch }) {
      this.props = props;
      this.root = element.querySelector(".ans");
      this.part = (name) => this.root.querySelector(`:scope > [data-part="${name}"], .ans-line > [data-part="${name}"]`);
      this.now = null;
      watch("value", () => this.receive(props.value));
      document.addEventListener("script:settings", (event) => {
        if (event.detail.grid !== props.grid_id) return;
        this.now = event.detail;
        this.freshness();
      });
      document.addEventListener("input", (event) => {
        if (event.target.closest && event.target.closest("#" + props.question_id)) this.freshness();
      }, true);
      document.addEventListener("click", (event) => {
        if (event.target.closest && event.target.closest("#" + props.ask_id)) this.waiting();
      }, true);
      this.receive(props.value);
    }

    /* Pressed, but the queue has not answered yet. The server is told with the value, as it may never get to answer. */
    waiting() {
      const said = { state: "waiting", status: "Waiting for the model ..." };
      this.part("status").textContent = said.status;
      this.root.dataset.state = said.state;
      this.props.value = { ...this.value, ...said };
    }

    receive(value) {
      if (!value) return;
      this.value = value;
      this.root.dataset.state = value.state;
      this.root.dataset.declined = String(value.declined === true);
      ["pruned", "full"].forEach((name) => this.card(name, value[name] || {}));
      const verdict = this.part("verdict");
      verdict.hidden = typeof value.same !== "boolean";
      verdict.textContent = value.same ? "\u2713 same answer" : "\u2260 different answer";
      verdict.dataset.same = String(value.same);
      const kl = this.part("kl");
      kl.hidden = typeof value.kl !== "number";
      kl.textContent = kl.hidden ? "" : `KL of the first token ${small(value.kl)} nats`;
      kl.title = "How far the pruned model's probabilities for the first answer token are from the full model's; " +
        "0 means identical. Measured in this run.";
      this.part("status").textContent = value.status || "";
      const list = this.part("notices");
      list.replaceChildren(...(value.notices || []).map(notice));
      this.freshness();
      if (value.state === "done" || value.state === "stopped" || value.state === "failed") this.announce();
    }

    card(name, answer) {
      const card = this.root.querySelector(`[data-card="${name}"]`);
      const part = (which) => card.querySelector(`[data-part="${which}"]`);
      card.dataset.state = answer.state || "empty";
      card.setAttribute("aria-busy", String(answer.state === "streaming"));
      part("title").textContent = answer.title || (name === "pruned" ? "Pruned" : "All tokens");
      part("text").textContent = answer.text || "";
      part("time").textContent = answer.time || "";
    }

    freshness() {
      const stale = this.part("stale");
      const reason = this.value && this.value.asked ? this.changed(this.value.asked) : "";
      stale.hidden = !reason;
      stale.textContent = reason;
      this.root.dataset.stale = String(Boolean(reason));
    }

    /* What of the settings changed since the answer, as a sentence. */
    changed(asked) {
      const now = this.now;
      const again = "press Ask to update.";
      if (["running", "waiting"].includes(this.root.dataset.state)) return "";
      if (now && now.media !== asked.media) return `These answers are for another ${asked.what || "picture"}; ${again}`;
      const question = document.querySelector(`#${this.props.question_id} textarea`);
      if (question && squeeze(question.value) !== squeeze(asked.question)) {
        return `These answers are for another question; ${again}`;
      }
      if (!now) return "";
      if (asked.model && now.model !== asked.model) return `These answers are from another model; ${again}`;
      if (now.asked && now.asked.method !== asked.method) return `The answer is for ${asked.title}; ${again}`;
      if (asked.method !== "full" && now.budget !== asked.budget) return `The answer is for ${asked.budget} tokens; ${again}`;
      const names = { tau: "tau", gamma: "gamma", p: "p", scope: "scope", flip: "sign", newlines: "newlines" };
      for (const [name, label] of Object.entries(names)) {
        if (now.asked && name in asked && now.asked[name] !== asked[name]) {
          return `The answer is for ${label} ${asked[name]}; ${again}`;
        }
      }
      return "";
    }

    announce() {
      const { pruned, full, same } = this.value;
      if (!pruned || !full) return;
      const verdict = typeof same === "boolean" ? (same ? "Same answer." : "Different answers.") : "";
      this.part("live").textContent = "";
      if (this.value.declined) {
        setTimeout(() => { this.part("live").textContent = `${pruned.text} ${this.value.status}`; }, 150);
        return;
      }
      setTimeout(() => {
        this.part("live").textContent = `${pruned.title}: ${pruned.text}. ${full.title}: ${full.text}. ${verdict}`;
      }, 150);
    }
  }

  /* A long notice shows its first sentence and opens on demand. */
  function notice(text) {
    const item = document.createElement("li");
    const end = text.indexOf(". ") + 1;
    if (text.length < 240 || !end) {
      item.textContent = text;
      return item;
    }
    const fold = document.createElement("details");
    const first = document.createElement("summary");
    const rest = document.createElement("p");
    first.textContent = text.slice(0, end);
    rest.textContent = text.slice(end + 1);
    fold.append(first, rest);
    item.append(fold);
    return item;
  }

  const squeeze = (text) => String(text || "").trim().split(/\s+/).join(" ");
  const small = (x) => (x === 0 ? "0" : x < 0.0005 ? "< 0.001" : x.toFixed(3));

  return { mount: (element, tools) => new Answers(element, tools) };
})();
