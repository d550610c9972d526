// Elements and texts. Nobody vouches for a text of a dataset or a model: it becomes a text
// node, and characters that hide or reorder others are written out, by the rules of
// src/report/escape.rs.

/** Control characters but line feeds, marks of direction, characters that show as nothing. */
const TREACHEROUS =
  /[\0-\t\v-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;

/** Characters of a text that are shown before a button asks for the rest. */
const MAX_SHOWN = 2000;

/** How a treacherous character is written. */
function written(character) {
  if (character === "\t") return "\\t";
  if (character === "\r") return "\\r";
  if (character === "\n") return "\\n";
  return `\\u{${character.codePointAt(0).toString(16)}}`;
}

/** The text in one line without treacherous characters, for attributes and options. */
function plain(text) {
  let shown = "";
  for (const it of String(text)) shown += it === "\n" || TREACHEROUS.test(it) ? written(it) : it;
  return shown;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** An element; strings among its children become text nodes. */
function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes ?? {}, children);
}

/** An SVG element. */
function s(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes ?? {}, children);
}

/** Nodes that show a text; written-out characters are set off from those that stand there. */
function shown(text, isOneLine) {
  const nodes = [];
  let run = "";
  for (const it of text) {
    if (TREACHEROUS.test(it) || (isOneLine && it === "\n")) {
      nodes.push(run, h("span", { class: "written" }, written(it)));
      run = "";
    } else {
      run += it;
    }
  }
  nodes.push(run);
  return nodes.filter((it) => it !== "");
}

/** The start of a text, without half of a pair of surrogates at its end. */
function cut(text, length) {
  return text.slice(0, /[\ud800-\udbff]/.test(text[length - 1] ?? "") ? length - 1 : length);
}

/** A text of data or a model in a line of its own reading direction. */
function inline(text) {
  return h("bdi", { class: "untrusted" }, shown(cut(text, MAX_SHOWN), true), text.length > MAX_SHOWN ? "…" : null);
}

/** A text of data or a model with its lines; `start` is a part that stands back. */
function block(text, { start = "", label = null } = {}) {
  const box = h("div", { class: "untrusted block", dir: "auto", role: label && "group", "aria-label": label });
  const draw = (limit) => {
    const head = cut(start, limit);
    const rest = cut(text, Math.max(0, limit - head.length));
    box.replaceChildren();
    if (head) box.append(h("span", { class: "shared" }, shown(head)));
    box.append(...shown(rest));
    const left = start.length + text.length - head.length - rest.length;
    if (start.length + text.length === 0) box.append(h("span", { class: "empty" }, "empty"));
    else if (left > 0) {
      const more = h("button", { type: "button", class: "more", onclick: () => draw(Infinity) });
      more.append(`show ${counted(left, "more character")}`);
      box.append(" ", more);
    }
  };
  draw(MAX_SHOWN);
  return box;
}

/** A control with a label around it. */
function labelled(text, control, isHidden = false) {
  return h("label", { class: "field" }, h("span", { class: isHidden ? "hidden" : null }, text), control);
}

/** A select over `[value, text]` pairs, or `[group, pairs]` where the second is a list. */
function select(id, pairs, value, onchange) {
  const option = ([of, text]) => {
    const it = h("option", { value: of }, text);
    it.selected = String(of) === String(value);
    return it;
  };
  const entries = pairs.map((it) =>
    Array.isArray(it[1]) ? h("optgroup", { label: it[0] }, it[1].map(option)) : option(it));
  return h("select", { id, onchange: (event) => onchange(event.target.value) }, entries);
}

/** A table in a box that scrolls sideways by itself. */
function table(caption, head, body, attributes = {}) {
  const cell = (tag) => (it) => (it instanceof Node ? it : h(tag, {}, it));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", attributes, h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, head.map(cell("th")))),
      h("tbody", {}, body.map((row) => (row instanceof Node ? row : h("tr", {}, row.map(cell("td"))))))));
}

/** A cell of numbers: right-aligned. */
function n(...children) {
  return h("td", { class: "n" }, ...children);
}

/** The header of a column of numbers. */
function nh(...children) {
  return h("th", { class: "n", scope: "col" }, ...children);
}
