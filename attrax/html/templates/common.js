// Three significant digits, as `number` in _page.py writes them.
const number = (value) => {
  // Rounded first: 0.9996 is 1.00.
  const size = Math.abs(Number(value.toPrecision(3)));
  if (size === 0) return "0";
  const text = size < 1e-3 || size >= 1e6
    ? value.toExponential(2).replace("e+", "e")
    : value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size))));
  return text.replaceAll("-", "−");
};
const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));
const data = JSON.parse(document.getElementById("data").textContent);

// An array that `packed` in _page.py has written.
const unpack = ({ unit, values }) => {
  const bytes = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => unit * view.getInt16(2 * i, true));
};

// A map over a photograph: blue is positive, red is negative, strongest where |value| is `top`.
const painting = (figure, rows, columns) => {
  const [blue, red] = [[40, 130, 255], [245, 60, 50]];
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  figure.append(canvas);
  const context = canvas.getContext("2d");
  return {
    clear: () => context.clearRect(0, 0, columns, rows),
    show: (values, top) => {
      const pixels = context.createImageData(columns, rows);
      values.forEach((value, i) => {
        pixels.data.set(value > 0 ? blue : red, 4 * i);
        pixels.data[4 * i + 3] = Math.round(225 * Math.min(1, Math.abs(value) / top));
      });
      context.putImageData(pixels, 0, 0);
    },
  };
};

// A photograph as a grid of positions, to point at, to tap, or to walk on with the arrow keys.
// `picked(row, column)` is called for every new position.
const grid = (figure, rows, columns, picked) => {
  const marker = document.createElement("span");
  marker.className = "marker";
  marker.hidden = true;
  marker.style.width = `${100 / columns}%`;
  marker.style.height = `${100 / rows}%`;
  figure.append(marker);
  const at = { row: 0, column: 0 };
  const clamp = (value, n) => Math.max(0, Math.min(value, n - 1));

  const place = (row, column) => {
    Object.assign(at, { row: clamp(row, rows), column: clamp(column, columns) });
    marker.hidden = false;
    marker.style.left = `${(100 * at.column) / columns}%`;
    marker.style.top = `${(100 * at.row) / rows}%`;
  };
  const pick = (row, column) => {
    const before = marker.hidden ? null : { ...at };
    place(row, column);
    if (before?.row !== at.row || before?.column !== at.column) picked(at.row, at.column);
  };
  const point = (event) => {
    const box = figure.getBoundingClientRect();
    pick(
      Math.floor((rows * (event.clientY - box.top)) / box.height),
      Math.floor((columns * (event.clientX - box.left)) / box.width),
    );
  };
  figure.addEventListener("pointermove", point);
  figure.addEventListener("pointerdown", point);
  figure.addEventListener("keydown", (event) => {
    const { row, column } = at;
    const target = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      Home: [row, 0], End: [row, columns - 1], PageUp: [0, column], PageDown: [rows - 1, column],
    }[event.key];
    if (!target || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    pick(...target);
  });
  return { place, pick, clear: () => { marker.hidden = true; } };
};

// The strongest units of a position, as `strongest` in _page.py has written them, in the entries of
// a list. Returns `(row, column) => text`, which shows those of another position.
const strongest = (list) => {
  const { columns, k, units, names, sprites, limit } = data;
  const values = unpack(data.values);
  const entries = [...list];
  return (row, column) => {
    const first = (row * columns + column) * k;
    return entries.map((entry, i) => {
      const unit = units[first + i];
      const value = values[first + i];
      const tile = entry.querySelector(".sprite");
      if (unit in sprites) {
        const picture = tile.querySelector("img") ?? document.createElement("img");
        picture.src = sprites[unit];
        picture.alt = `What ${names[unit]} looks for`;
        tile.replaceChildren(picture);
      } else tile.textContent = "no picture";
      entry.querySelector(".value span").textContent = names[unit];
      entry.querySelector("b").textContent = number(value);
      const bar = entry.querySelector(".bar span");
      bar.style.width = `${(100 * Math.abs(value)) / limit}%`;
      bar.classList.toggle("negative", value < 0);
      return `${names[unit]} ${number(value)}`;
    }).join(", ");
  };
};
