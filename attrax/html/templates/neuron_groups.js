(() => {
  const { rows, columns, colours, names, scale, shares, widths } = data;
  const positions = unpack(data.positions);
  const size = rows * columns;
  const figure = document.getElementById("image");
  const said = document.getElementById("said");
  const buttons = [...document.querySelectorAll(".group")];
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  figure.append(canvas);
  const context = canvas.getContext("2d");
  const rgb = colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));

  // A position has the colours of its groups, mixed by their strengths, and is as opaque as the
  // strongest of them.
  const draw = (shown) => {
    const pixels = context.createImageData(columns, rows);
    for (let p = 0; p < size; p += 1) {
      const strengths = shown.map((k) => positions[k * size + p]);
      const total = strengths.reduce((a, b) => a + b, 0) || 1;
      [0, 1, 2].forEach((c) => {
        const mixed = shown.reduce((sum, k, i) => sum + (rgb[k][c] * strengths[i]) / total, 0);
        pixels.data[4 * p + c] = Math.round(mixed);
      });
      pixels.data[4 * p + 3] = Math.round(240 * Math.min(1, Math.max(...strengths) / scale));
    }
    context.putImageData(pixels, 0, 0);
  };
  const all = names.map((_, k) => k);
  const write = (texts, lengths) => buttons.forEach((button, k) => {
    button.querySelector(".strength").textContent = texts[k];
    button.querySelector(".share span").style.width = `${lengths[k]}%`;
  });
  const overall = () => write(shares, widths);

  let chosen = null;
  const choose = (k) => {
    chosen = k;
    draw(k === null ? all : [k]);
    buttons.forEach((button, j) => button.setAttribute("aria-pressed", j === k));
    said.textContent = k === null ? "All groups" : names[k];
  };
  const marks = grid(figure, rows, columns, (row, column) => {
    const here = all.map((k) => positions[k * size + row * columns + column]);
    write(here.map(number), here.map((value) => Math.min(100, (100 * value) / scale)));
    const strongest = here.indexOf(Math.max(...here));
    said.textContent = `row ${row + 1}, column ${column + 1}: most of ${names[strongest]}`;
  });
  const leave = () => { marks.clear(); overall(); choose(chosen); };
  figure.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") leave(); });
  figure.addEventListener("blur", leave);
  buttons.forEach((button, k) => {
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") { draw([k]); said.textContent = names[k]; }
    });
    button.addEventListener("pointerleave", () => choose(chosen));
    button.addEventListener("click", () => choose(chosen === k ? null : k));
  });
  choose(null);
})();
