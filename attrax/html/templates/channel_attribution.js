(() => {
  const cards = [...document.querySelectorAll(".strip li")];
  const mark = (channel) => {
    for (const card of cards) card.classList.toggle("same", card.dataset.channel === channel);
  };
  // The same channel in all columns.
  for (const card of cards) {
    card.addEventListener("pointerenter", () => mark(card.dataset.channel));
    card.addEventListener("pointerleave", () => mark(null));
  }

  document.querySelectorAll(".method").forEach((method, i) => {
    const slider = method.querySelector(".distribution");
    const readout = method.querySelector(".readout");
    const { order, values } = data.methods[i];
    const n = order.length;
    const cursor = document.createElement("span");
    cursor.className = "cursor";
    cursor.hidden = true;
    slider.append(cursor);
    let rank = 0;

    const pick = (wanted) => {
      rank = Math.max(0, Math.min(wanted, n - 1));
      const text = `${data.names[order[rank]]}: ${signed(values[rank])}`;
      readout.textContent = `rank ${rank + 1} of ${n}, ${text}`;
      slider.setAttribute("aria-valuenow", rank + 1);
      slider.setAttribute("aria-valuetext", text);
      cursor.hidden = false;
      cursor.style.left = `${(100 * (rank + 0.5)) / n}%`;
      mark(String(order[rank]));
    };
    const point = (event) => {
      const box = slider.getBoundingClientRect();
      pick(Math.floor((n * (event.clientX - box.left)) / box.width));
    };
    slider.addEventListener("pointermove", point);
    slider.addEventListener("pointerdown", point);
    slider.addEventListener("pointerleave", () => mark(null));
    slider.addEventListener("focus", () => { if (cursor.hidden) pick(0); });
    slider.addEventListener("blur", () => mark(null));
    slider.addEventListener("keydown", (event) => {
      const far = Math.max(1, Math.round(n / 20));
      const target = {
        ArrowRight: rank + 1, ArrowDown: rank + 1, ArrowLeft: rank - 1, ArrowUp: rank - 1,
        Home: 0, End: n - 1, PageDown: rank + far, PageUp: rank - far,
      }[event.key];
      if (target === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      pick(target);
    });
  });
})();
