// Which examples are shown, and in what order.

const SHOW = [
  ["all", "all examples"], ["failures", "wrong or unscored"], ["unscored", "unscored"],
  ["flips", "flips"], ["gained", "▲ gained"], ["lost", "▼ lost"],
];

const SORTS = [
  ["order", "order of the dataset"], ["id", "id"],
  ["worst", "gain, worst first"], ["best", "gain, best first"], ["size", "difference, largest first"],
  ["low", "value of the first, lowest first"], ["high", "value of the first, highest first"],
];

/** The sides that stand in a card. */
function sides(state) {
  if (state.columns === "pair") return [state.a, state.b];
  const all = RUNS[state.run].variants.map((_, variant) => ({ run: state.run, variant }));
  return state.b.run === state.run ? all : [...all, state.b];
}

/** Everything that the search looks at of one example, in lower case. */
function searchable(state, example) {
  const run = RUNS[state.run];
  const key = `${state.model}/${example}/${state.b.run}/${state.b.variant}`;
  run.searchable[key] ??= [
    run.examples[example].id,
    ...run.examples[example].fields.map((it) => text(it[1])),
    ...[...run.variants.map((_, variant) => ({ run: state.run, variant })), state.b].flatMap((side) => {
      const { cases } = RUNS[side.run];
      return casesOf(state, side, example).flatMap((it) => {
        const { start, rest } = promptOf(RUNS[side.run], it);
        return [start + rest, text(cases.target[it]) ?? "", text(cases.generation[it]) ?? ""];
      });
    }),
  ].join("\n").toLowerCase();
  return run.searchable[key];
}

/** Whether an example belongs to one of SHOW. */
function belongs(state, kind, example) {
  if (kind === "all") return true;
  if (kind === "failures") return sides(state).some((it) => isFailure(state, it, example) === true);
  if (kind === "unscored") return sides(state).some((it) => isUnscored(state, it, example));
  if (!isRightOrWrong(state)) return false;
  const gain = gainOf(state, example);
  if (kind === "gained") return gain !== null && gain > 0;
  if (kind === "lost") return gain !== null && gain < 0;
  return gain !== null && gain !== 0;
}

/** Whether a kind of SHOW can be told at all by the chosen metric. */
function isTold(state, kind) {
  if (["flips", "gained", "lost"].includes(kind)) return isRightOrWrong(state);
  if (kind !== "failures") return true;
  const first = RUNS[state.run].examples.findIndex((_, i) => casesOf(state, state.a, i).length > 0);
  return isRightOrWrong(state) || (first >= 0 && isFailure(state, state.a, first) !== null);
}

/** Whether an example meets the limit; one without that number does not. */
function meets(state, example) {
  const { of, is, value } = state.limit;
  if (value === "" || !Number.isFinite(Number(value))) return true;
  const { unit } = RUNS[state.run].metrics[state.metric];
  const found = of === "gain" ? gainOf(state, example) : valueOf(state, of === "a" ? state.a : state.b, example);
  if (found === null) return false;
  // As shown: percentages, and as many digits, so that what reads as 50.0 meets "at least 50".
  const read = Number(formatValue(unit, found).replace("inf", "Infinity"));
  return is === "least" ? read >= Number(value) : read <= Number(value);
}

/** Indices of the examples to show, in order; and how many each of SHOW would have. */
function chosen(state) {
  const query = state.query.trim().toLowerCase();
  const counts = Object.fromEntries(SHOW.map(([it]) => [it, 0]));
  const found = [];
  const bin = state.bin && new Set(state.bin.examples);
  RUNS[state.run].examples.forEach((_, i) => {
    if (query !== "" && !searchable(state, i).includes(query)) return;
    if (bin !== null && !bin.has(i)) return;
    if (!meets(state, i)) return;
    for (const [kind] of SHOW) if (belongs(state, kind, i)) counts[kind] += 1;
    if (belongs(state, state.show, i)) found.push(i);
  });
  return { found: sorted(state, found), counts };
}

/** Stable: what is equal stays in the order of the dataset; what has no number comes last. */
function sorted(state, list) {
  const by = (key, sign) => {
    const keys = new Map(list.map((it) => [it, key(it)]));
    return [...list].sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return x === y ? 0 : sign * (x < y ? -1 : 1);
    });
  };
  const gain = (it) => gainOf(state, it);
  const size = (it) => { const of = gain(it); return of === null ? null : Math.abs(of); };
  const value = (it) => valueOf(state, state.a, it);
  switch (state.sort) {
    case "id": return by((it) => RUNS[state.run].examples[it].id, 1);
    case "worst": return by(gain, 1);
    case "best": return by(gain, -1);
    case "size": return by(size, -1);
    case "low": return by(value, 1);
    case "high": return by(value, -1);
    default: return list;
  }
}

/** The controls above the examples. */
function filterControls(state, counts) {
  const { metrics } = RUNS[state.run];
  const metric = metrics[state.metric];
  const later = (change, id) => (event) => {
    clearTimeout(state.timer);
    state.timer = setTimeout(() => state.set({ ...change(event.target.value), page: 0 }, id), 150);
  };
  const shows = SHOW.filter(([it]) => isTold(state, it)).map(([it, name]) => [it, `${name} (${count(counts[it])})`]);
  const limit = (it) => ({ limit: { ...state.limit, ...it } });
  const unit = state.limit.of === "gain" ? metric.difference_unit : metric.unit;
  const set = (key) => (value) => state.set({ [key]: value, page: 0 });
  return h("form", { class: "fields filter", role: "search", "aria-label": "Filter and sort examples", onsubmit: (it) => it.preventDefault() },
    labelled("Search", h("input", { type: "search", id: "query", value: state.query, placeholder: "id, prompt, target, generation",
      autocomplete: "off", spellcheck: "false", oninput: later((query) => ({ query }), "query") })),
    labelled("Show", select("show", shows, state.show, set("show"))),
    labelled("Sort by", select("sort", SORTS, state.sort, set("sort"))),
    h("fieldset", { class: "limit" }, h("legend", {}, `Limit by ${metric.name}`),
      labelled("what", select("limit-of", [["a", `value of ${sideName(state, state.a)}`], ["b", `value of ${sideName(state, state.b)}`], ["gain", "gain"]],
        state.limit.of, (of) => state.set({ ...limit({ of }), page: 0 })), true),
      labelled("how", select("limit-is", [["least", "at least"], ["most", "at most"]], state.limit.is,
        (is) => state.set({ ...limit({ is }), page: 0 })), true),
      labelled("number", h("input", { type: "number", step: "any", id: "limit", value: state.limit.value, placeholder: unit || "number",
        oninput: later((value) => limit({ value }), "limit") }), true),
      h("span", { class: "unit" }, unit)),
    labelled("Columns", select("columns", [["pair", "this pair"], ["all", "all variants"]], state.columns, set("columns"))));
}
