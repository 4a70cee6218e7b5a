// Making elements. Text is only ever set as text: nothing that comes from the API is read as HTML.

/** An element with properties and children; strings become text. Names that begin with `on` are listeners, `class`, `data-…` and `aria-…` attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  if (properties.class) element.className = properties.class;
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Names and figures, one beside the other. */
export function figures(pairs) {
  return make("dl", { class: "figures" },
    pairs.map(([name, value, kind]) => make("div", {}, make("dt", {}, name), make("dd", { class: kind }, value))));
}

/** A table that scrolls by itself where it is too wide; rows are lists of texts and elements. */
export function table(heads, rows, caption) {
  const cell = (content) => make("td", {}, content ?? "");
  return make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    make("table", {},
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, rows.map((row) => make("tr", {}, row.map(cell))))));
}

/** A button whose work may take time: it cannot be pressed again until that is done, and what goes wrong with it is said. It keeps the focus meanwhile, which `disabled` would lose. */
export function button(text, work, properties = {}) {
  const element = make("button", { type: "button", ...properties }, text);
  element.addEventListener("click", async () => {
    if (element.ariaDisabled === "true") return;
    element.ariaDisabled = "true";
    try {
      await work();
    } catch (error) {
      // Whoever is not known any more has been told already, where they sign in.
      if (error.status !== 401) notice(error.message, true);
    } finally {
      element.ariaDisabled = null;
    }
  });
  return element;
}

/** A field with its name above it. */
export function field(name, control, properties = {}) {
  return make("label", properties, name, control);
}

/** Choices; each a text, or a value and a text. */
export function select(choices, properties = {}) {
  const option = (choice) => {
    const [value, text] = Array.isArray(choice) ? choice : [choice, choice];
    return make("option", { value }, text);
  };
  return make("select", properties, choices.map(option));
}

let noticeTimer;

/** Says something to everybody, screen readers included. What is bad stays until something else is said. */
export function notice(text, isBad = false) {
  const element = document.getElementById("notice");
  clearTimeout(noticeTimer);
  element.textContent = text;
  element.className = isBad ? "bad" : "";
  element.hidden = !text;
  if (text && !isBad) noticeTimer = setTimeout(() => notice(""), 8000);
}

/** Asks whether something is to be done. */
export function confirmed(title, text, yes) {
  const dialog = document.getElementById("dialog");
  document.getElementById("dialog-title").textContent = title;
  document.getElementById("dialog-text").replaceChildren(...[text].flat().map((line) => make("p", {}, line)));
  document.getElementById("dialog-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
