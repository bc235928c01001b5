(() => {
  const { rows, columns, start } = data;
  const element = (id) => document.getElementById(id);
  const maps = data.maps.map((map, i) => {
    const figure = element(`map${i}`);
    const values = unpack(map);
    painting(figure, rows, columns).show(values, map.scale);
    const card = figure.closest(".map");
    return { figure, values, name: card.querySelector("h2").textContent, here: card.querySelector("b") };
  });
  const show = (row, column) => {
    for (const { marks } of maps) marks.place(row, column);
    element("row").textContent = row + 1;
    element("column").textContent = column + 1;
    const texts = maps.map(({ name, values, here }) => {
      here.textContent = signed(values[row * columns + column]);
      return `${name} ${here.textContent}`;
    });
    element("said").textContent = `row ${row + 1}, column ${column + 1}: ${texts.join(", ")}`;
  };
  for (const map of maps) map.marks = grid(map.figure, rows, columns, show);
  for (const { marks } of maps) marks.place(...start);
})();
