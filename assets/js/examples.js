/* A strip of example pictures; a click asks. Below it, further questions for the picture that is open,
   be it an example or a scene that was just drawn. */
window.ScriptExamples = (() => {
  "use strict";

  function mount(element, { props, trigger, watch }) {
    const row = element.querySelector('[data-part="row"]');
    const more = element.querySelector('[data-part="more"]');

    let media = "";

    function draw() {
      const { items = [] } = props.value || {};
      if (row.childElementCount !== items.length) row.replaceChildren(...items.map(button));
      [...row.children].forEach((child, i) => child.setAttribute("aria-pressed", String(items[i].media === media)));
      const chosen = items.find((item) => item.media === media);
      const { scene } = props.value || {};
      const drawn = scene && scene.media === media;
      const questions = chosen ? [chosen.question, ...chosen.more] : drawn ? scene.questions : [];
      more.hidden = questions.length < 2 && !drawn;
      more.replaceChildren(...questions.map((text, place) => chip(text, chosen, place)));
    }

    function button(item) {
      const made = document.createElement("button");
      made.type = "button";
      made.className = item.photo ? "exs-item exs-photo" : "exs-item";
      made.dataset.example = item.id;
      made.title = `${item.what || (item.photo ? "Photograph" : "Sticker scene")}: ${item.question}`;
      const picture = document.createElement("img");
      picture.src = item.thumb.url;
      picture.alt = item.alt;
      picture.loading = "lazy";
      picture.width = picture.height = 56;
      made.append(picture);
      made.addEventListener("click", () => pick(0, item.id));
      return made;
    }

    function chip(text, item, place) {
      const made = document.createElement("button");
      made.type = "button";
      made.className = "exs-chip";
      made.textContent = text;
      // A scene that was drawn for this visitor has no name; its question is sent as it is.
      made.addEventListener("click", () => pick(place, item ? item.id : { question: text }));
      return made;
    }

    /* First what runs is left, as it takes a moment to end, and then the next is chosen. */
    function pick(index, value) {
      trigger("leave");
      trigger("select", { index, value });
    }

    /* The canvas says which picture is open; of a video, whose frames vary, which example it was. */
    document.addEventListener("script:settings", ({ detail }) => {
      const open = (detail.asked && detail.asked.example) || detail.media;
      if (detail.grid !== props.grid_id || open === media) return;
      media = open;
      draw();
    });
    watch("value", draw);
    draw();
  }

  return { mount };
})();
