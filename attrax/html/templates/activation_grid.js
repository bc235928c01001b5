(() => {
  const { rows, columns, start, tile: [height, width], largest } = data;
  const shares = unpack(data.shares);
  const element = (id) => document.getElementById(id);
  const [mosaic, image, large] = [element("grid"), element("image"), document.querySelector(".large")];
  const tiles = mosaic.querySelector("img");
  const fill = strongest(document.querySelectorAll(".entries li"));
  const drawn = (w, h) => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: w, height: h });
    return [canvas, canvas.getContext("2d")];
  };
  const from = (row, column) => [tiles, column * width, row * height, width, height];

  const [one, context] = drawn(width, height);
  one.setAttribute("role", "img");
  const show = (row, column) => {
    for (const marks of [onGrid, onImage]) marks.place(row, column);
    context.clearRect(0, 0, width, height);
    context.drawImage(...from(row, column), 0, 0, width, height);
    one.setAttribute("aria-label", `What the layer sees at row ${row + 1}, column ${column + 1}`);
    large.replaceChildren(one);
    const share = shares[row * columns + column];
    element("row").textContent = row + 1;
    element("column").textContent = column + 1;
    element("strength").textContent = number(share * largest);
    document.querySelector(".strength .bar span").style.width = `${100 * share}%`;
    const strengthText = `strength ${number(share * largest)}`;
    element("said").textContent = `row ${row + 1}, column ${column + 1}: ${strengthText}, ${fill(row, column)}`;
  };
  const onGrid = grid(mosaic, rows, columns, show);
  const onImage = grid(image, rows, columns, show);
  for (const marks of [onGrid, onImage]) marks.place(...start);

  // Each tile in the middle of its position, its sides in the measure of its strength.
  const sized = () => {
    const [canvas, whole] = drawn(columns * width, rows * height);
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const share = shares[row * columns + column];
        const [left, top] = [(column + (1 - share) / 2) * width, (row + (1 - share) / 2) * height];
        whole.drawImage(...from(row, column), left, top, share * width, share * height);
      }
    }
    return canvas;
  };
  const choose = () => {
    mosaic.classList.toggle("sized", element("sized").checked);
    mosaic.querySelector("canvas")?.remove();
    if (element("sized").checked) mosaic.insertBefore(sized(), mosaic.querySelector(".marker"));
  };
  element("sized").addEventListener("change", choose);
  // Browsers keep the switch when a page is loaded again.
  tiles.decode().then(choose);
})();
