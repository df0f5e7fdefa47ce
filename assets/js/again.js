/* A note's button that sets a slider and presses another button, so that asking again with less is one click. */
document.addEventListener("click", (event) => {
  const button = event.target.closest && event.target.closest(".note-again");
  if (!button) return;
  const { dial, value, run } = button.dataset;
  const number = document.querySelector(`#${CSS.escape(dial)} input[type=number]`);
  const ask = document.querySelector(`#${CSS.escape(run)}`);
  if (!number || !ask) return;
  button.disabled = true;
  number.value = value;
  for (const kind of ["input", "change", "blur"]) number.dispatchEvent(new Event(kind, { bubbles: true }));
  /* The page takes the number over before the next frame but one. */
  requestAnimationFrame(() => requestAnimationFrame(() => (ask.matches("button") ? ask : ask.querySelector("button")).click()));
});
