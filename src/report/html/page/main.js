// What is chosen, and what is drawn anew when a choice changes.

const page = document.getElementById("page");

const state = {
  run: 0, model: 0, metric: 0, a: null, b: null,
  query: "", show: "all", sort: "order", limit: { of: "a", is: "most", value: "" }, columns: "pair",
  page: 0, size: 20, bin: null, bar: 0, timer: 0,

  /** Takes over choices and draws what they change; `focus` is the id that gets the focus. */
  set(change, focus = null) {
    const isWhole = ["run", "model", "metric", "a", "b", "limit", "columns"].some((it) => it in change)
      && focus !== "limit";
    const id = focus ?? document.activeElement?.id;
    Object.assign(state, change);
    if ("run" in change) opened();
    if ("metric" in change || "model" in change || "run" in change) Object.assign(state, { bin: null, bar: 0, page: 0 });
    if ("metric" in change || "run" in change) state.limit = { ...state.limit, value: "" };
    if (!isTold(state, state.show)) state.show = "all";
    if (isWhole) draw();
    else drawFound("bin" in change);
    const target = id ? document.getElementById(id) : null;
    const bar = target?.id === "bars" ? target.querySelector("[tabindex='0']") : target;
    if (bar && bar !== document.activeElement) bar.focus({ preventScroll: true });
  },

  /** Shows the examples behind a row of the differences. */
  choosePair(model, it) {
    const side = (variant) => ({ run: state.run, variant });
    state.set({
      model: RUNS[state.run].models.indexOf(model), a: side(it.candidate), b: side(it.reference),
    });
    const heading = document.getElementById("pair");
    heading.setAttribute("tabindex", "-1");
    heading.focus();
    heading.scrollIntoView();
  },
};

/** What a run starts with. */
function opened() {
  const run = RUNS[state.run];
  Object.assign(state, { model: 0, metric: run.primary });
  [state.a, state.b] = firstPair(state);
}

const themes = [["", "system"], ["light", "light"], ["dark", "dark"]];

function theme(value) {
  if (value === "") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", value);
}

/** Run, model and metric: what the whole page is about. */
function controls() {
  const run = RUNS[state.run];
  const metrics = run.metrics.map((it, i) => ({ ...it, i }));
  const named = (list) => list.map((it) => [it.i, it.name]);
  const others = metrics.filter((it) => it.i !== run.primary);
  const groups = [["primary", named([metrics[run.primary]])],
    ["exploratory", named(others.filter((it) => !it.is_descriptive))],
    ["descriptive", named(others.filter((it) => it.is_descriptive))]].filter((it) => it[1].length > 0);
  const set = (key) => (value) => state.set({ [key]: Number(value) });
  const runName = (it) => (RUNS.every((of) => of.experiment === it.experiment) ? it.run : `${it.experiment}/${it.run}`);
  return h("nav", { "aria-label": "What is shown" }, h("div", { class: "fields" },
    RUNS.length === 1 ? null : labelled("Run", select("run", RUNS.map((it, i) => [i, runName(it)]), state.run, set("run"))),
    run.models.length === 1 ? null
      : labelled("Model of the examples", select("model", run.models.map((it, i) => [i, plain(it.name)]), state.model, set("model"))),
    labelled("Metric", select("metric", groups, state.metric, set("metric"))),
    labelled("Theme", select("theme", themes, document.documentElement.getAttribute("data-theme") ?? "", theme))));
}

const region = (id, attributes = {}) => h("div", { id, ...attributes });
const regions = {
  head: region("head"), controls: region("controls", { class: "controls" }), models: region("models"), why: region("why"),
  filter: region("filter"), list: region("list"),
};

function replace(into, ...children) {
  into.replaceChildren(...children.flat(Infinity).filter((it) => it !== null && it !== undefined && it !== false));
}

/** Draws everything. */
function draw() {
  const run = RUNS[state.run];
  replace(regions.head, head(state));
  replace(regions.controls, controls());
  replace(regions.models, run.models.map((it) => modelSection(state, it)));
  replace(regions.why, pairSection(state), tokenHint(state));
  replace(regions.filter, filterControls(state, chosen(state).counts));
  drawFound(false);
}

/** Draws the examples, and the chart where a bar of it was chosen. */
function drawFound(hasBin) {
  const { found, counts } = chosen(state);
  if (hasBin) {
    const bars = document.getElementById("bars");
    const of = spread(state);
    if (bars) replace(bars, histogram(state, of));
  }
  for (const option of document.getElementById("show").options) {
    const [, name] = SHOW.find(([it]) => it === option.value);
    option.textContent = `${name} (${count(counts[option.value])})`;
  }
  state.page = Math.min(state.page, Math.max(0, Math.ceil(found.length / state.size) - 1));
  replace(regions.list, exampleList(state, found));
}

if (RUNS.length > 0) {
  opened();
  page.append(regions.head, h("main", {}, regions.controls, regions.models,
    h("section", { class: "why-section", "aria-label": "Example by example" }, regions.why,
      h("section", { id: "examples", tabindex: "-1", "aria-label": "Examples" }, h("h3", {}, "Examples"), regions.filter, regions.list))),
  h("footer", {}, `Made by harness ${plain(DATA.harness_version)}. This file loads and sends nothing.`));
  draw();
  document.documentElement.setAttribute("data-ready", "");
}

// On paper nothing can be opened.
let openedForPrint = [];
window.addEventListener("beforeprint", () => {
  openedForPrint = [...document.querySelectorAll("details.print-open:not([open])")];
  for (const it of openedForPrint) it.open = true;
});
window.addEventListener("afterprint", () => {
  for (const it of openedForPrint) it.open = false;
});
