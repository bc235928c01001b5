(() => {
  const tip = document.getElementById("tip");
  const number = (token) => token.querySelector(".hidden").textContent.trim();

  const show = (token) => {
    tip.querySelector("b").textContent = number(token);
    tip.hidden = false;
    const box = token.getClientRects()[0];
    const size = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth - size.width - 8;
    const left = Math.max(8, Math.min(box.left + box.width / 2 - size.width / 2, room));
    const above = box.top - size.height - 6;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above < 0 ? box.bottom + 6 : above) + scrollY}px`;
  };
  const hide = () => { tip.hidden = true; };

  const move = (token, event) => {
    const cell = token.closest(".tokens");
    const tokens = [...cell.querySelectorAll(".token")];
    const place = tokens.indexOf(token);
    const ahead = getComputedStyle(cell).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const back = ahead === "ArrowRight" ? "ArrowLeft" : "ArrowRight";
    // Rows have the same tokens: up and down go to the same one for another class.
    const rows = [...cell.closest(".rows").querySelectorAll(".tokens")];
    const other = (step) => rows[rows.indexOf(cell) + step]?.querySelectorAll(".token")[place];
    const targets = {
      [ahead]: () => tokens[place + 1], [back]: () => tokens[place - 1],
      Home: () => tokens[0], End: () => tokens.at(-1),
      ArrowUp: () => other(-1), ArrowDown: () => other(1),
    };
    if (event.key === "Escape") hide();
    const target = targets[event.key]?.();
    if (!target) return;
    event.preventDefault();
    target.focus();
  };

  for (const cell of document.querySelectorAll(".tokens")) {
    const token = (event) => event.target.closest(".token");
    cell.addEventListener("pointerover", (event) => { if (token(event)) show(token(event)); });
    cell.addEventListener("pointerout", (event) => { if (event.pointerType === "mouse") hide(); });
    cell.addEventListener("focusin", (event) => {
      if (!token(event)) return;
      for (const each of cell.querySelectorAll(".token[tabindex='0']")) each.tabIndex = -1;
      token(event).tabIndex = 0;
      show(token(event));
    });
    cell.addEventListener("focusout", hide);
    cell.addEventListener("keydown", (event) => { if (token(event)) move(token(event), event); });
  }
  addEventListener("resize", hide);
})();
