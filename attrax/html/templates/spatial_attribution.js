(() => {
  // Panels are the layers and the output, from left to right; a link joins neighbours. It has a row
  // for each place of the right one, in which there is a value for each of the left one.
  const links = data.links.map((link) => ({ ...link, rows: link.rows.map(unpack) }));

  const panels = data.panels.map((panel, p) => {
    const element = document.getElementById(`layer${p}`);
    const said = element.closest(".layer").querySelector(".said");
    const say = (values, from) => {
      const sum = values.reduce((total, value) => total + value, 0);
      const largest = values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
      said.textContent = `with ${from}: largest ${signed(largest)}, sum ${signed(sum)}`;
    };
    if (panel.names) {
      const buttons = [...element.querySelectorAll("button")];
      const press = (i) => buttons.forEach((b, j) => b.setAttribute("aria-pressed", i === j));
      const clear = () => buttons.forEach((button) => {
        button.querySelector("b").textContent = "";
        button.querySelector(".bar span").style.width = 0;
      });
      buttons.forEach((button, i) => {
        button.addEventListener("keydown", (event) => {
          const last = buttons.length - 1;
          const target = { ArrowUp: i - 1, ArrowDown: i + 1, Home: 0, End: last }[event.key];
          if (!buttons[target] || event.ctrlKey || event.metaKey || event.altKey) return;
          event.preventDefault();
          buttons[target].focus();
        });
        for (const kind of ["pointerenter", "focus", "click"]) {
          button.addEventListener(kind, () => select(p, i));
        }
      });
      return {
        select: (i) => { clear(); press(i); said.textContent = panel.names[i]; },
        clear: () => { press(-1); clear(); said.textContent = ""; },
        name: (i) => panel.names[i],
        show: (values, from) => {
          press(-1);
          const top = Math.max(...values.map(Math.abs)) || 1;
          buttons.forEach((button, i) => {
            button.querySelector("b").textContent = signed(values[i]);
            const bar = button.querySelector(".bar span");
            bar.style.width = `${(100 * Math.abs(values[i])) / top}%`;
            bar.classList.toggle("negative", values[i] < 0);
          });
          say(values, from);
        },
      };
    }
    const { clear, show: paint } = painting(element, panel.rows, panel.columns);
    const marks = grid(element, panel.rows, panel.columns, (row, column) => {
      select(p, row * panel.columns + column);
    });
    return {
      select: (i) => {
        clear();
        marks.place(Math.floor(i / panel.columns), i % panel.columns);
        said.textContent = `row ${Math.floor(i / panel.columns) + 1}, column ${(i % panel.columns) + 1}`;
      },
      clear: () => { clear(); marks.clear(); said.textContent = ""; },
      name: (i) => `row ${Math.floor(i / panel.columns) + 1}, column ${(i % panel.columns) + 1}`,
      show: (values, from) => {
        marks.clear();
        paint(values, Math.max(...values.map(Math.abs)) || 1);
        say(values, from);
      },
    };
  });

  const select = (p, i) => {
    panels.forEach((panel, q) => { if (q !== p) panel.clear(); });
    panels[p].select(i);
    for (const { left, right, rows } of links) {
      if (p === right) panels[left].show([...rows[i]], panels[p].name(i));
      else if (p === left) panels[right].show(rows.map((row) => row[i]), panels[p].name(i));
    }
  };
  select(data.start.panel, data.start.place);
})();
