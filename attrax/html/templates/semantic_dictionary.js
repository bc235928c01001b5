(() => {
  const { rows, columns, start } = data;
  const element = (id) => document.getElementById(id);
  const fill = strongest(document.querySelectorAll(".entries li"));
  const show = (row, column) => {
    element("row").textContent = row + 1;
    element("column").textContent = column + 1;
    element("said").textContent = `row ${row + 1}, column ${column + 1}: ${fill(row, column)}`;
  };
  // The entries of this position are in the page as it was written.
  grid(element("image"), rows, columns, show).place(...start);
})();
