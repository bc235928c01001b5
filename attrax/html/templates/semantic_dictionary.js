(() => {
  const { rows, columns, k, start, units, names, sprites, limit } = data;
  const values = unpack(data.values);
  const entries = [...document.querySelectorAll(".entries li")];
  const element = (id) => document.getElementById(id);

  const show = (row, column) => {
    element("row").textContent = row + 1;
    element("column").textContent = column + 1;
    const first = (row * columns + column) * k;
    entries.forEach((entry, i) => {
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
    });
    const text = entries.map((entry) => entry.querySelector(".value").textContent).join(", ");
    element("said").textContent = `row ${row + 1}, column ${column + 1}: ${text}`;
  };
  // The entries of this position are in the page as it was written.
  grid(element("image"), rows, columns, show).place(...start);
})();
