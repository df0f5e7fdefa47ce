/* A note's button that sets a slider or a choice and presses another button, so that asking again with less is one click. */
document.addEventListener("click", (event) => {
  const button = event.target.closest && event.target.closest(".note-again");
  if (!button) return;
  const { dial, value, run } = button.dataset;
  const ask = document.querySelector(`#${CSS.escape(run)}`);
  const number = document.querySelector(`#${CSS.escape(dial)} input[type=number]`);
  const choice = [...document.querySelectorAll(`#${CSS.escape(dial)} input[type=radio]`)].find((one) => one.closest("label").innerText.trim() === value);
  if (!ask || !(number || choice)) return;
  button.disabled = true;
  if (number) {
    number.value = value;
    for (const kind of ["input", "change", "blur"]) number.dispatchEvent(new Event(kind, { bubbles: true }));
  } else {
    choice.click();
  }
  /* The page takes the value over before the next frame but one. */
  requestAnimationFrame(() => requestAnimationFrame(() => (ask.matches("button") ? ask : ask.querySelector("button")).click()));
});
