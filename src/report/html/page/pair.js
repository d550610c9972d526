// Two sides held against each other, example by example, and how their differences spread.

/** Bars of a histogram where values are no plain right or wrong. */
const N_BINS = 24;

/** The pair that a run is opened with: the first that the ranking compares. */
function firstPair(state) {
  const run = RUNS[state.run];
  const model = run.models[state.model];
  const side = (variant) => ({ run: state.run, variant });
  const ranked = model.ranking.map((it) => it.variant);
  if (run.control !== null) {
    const other = ranked.find((it) => it !== run.control) ?? run.control;
    return [side(other), side(run.control)];
  }
  return [side(ranked[1] ?? ranked[0]), side(ranked[0])];
}

/** The two selects that name the sides. */
function pairChooser(state) {
  const of = (runs) => runs.map((run) => [
    RUNS[run].run,
    RUNS[run].variants.map((it, variant) => [`${run}/${variant}`, plain(it.name)]),
  ]);
  const choose = (key, runs) => {
    const groups = of(runs);
    const pairs = groups.length === 1 ? groups[0][1] : groups;
    const onchange = (value) => {
      const [run, variant] = value.split("/").map(Number);
      state.set({ [key]: { run, variant }, page: 0, bin: null });
    };
    return select(`side-${key}`, pairs, `${state[key].run}/${state[key].variant}`, onchange);
  };
  const others = [state.run, ...RUNS.keys()].filter((it, i, all) => all.indexOf(it) === i);
  const swap = () => state.a.run === state.b.run && state.set({ a: state.b, b: state.a, page: 0, bin: null });
  return h("div", { class: "fields" },
    labelled("Gain of", choose("a", [state.run])),
    labelled("over", choose("b", others)),
    h("button", { type: "button", class: "quiet", onclick: swap, disabled: state.a.run !== state.b.run }, "swap sides"));
}

/** Which examples lie where: bins with their bounds, and how many are better, worse, left out. */
function spread(state) {
  const gains = RUNS[state.run].examples.map((_, i) => gainOf(state, i));
  const known = gains.filter((it) => it !== null && Number.isFinite(it)).sort((a, b) => a - b);
  const counts = {
    better: gains.filter((it) => it !== null && it > 0).length,
    worse: gains.filter((it) => it !== null && it < 0).length,
    equal: gains.filter((it) => it === 0).length,
    missing: gains.filter((it) => it === null).length,
  };
  if (known.length === 0) return { bins: [], counts, known };
  const median = (known[Math.floor((known.length - 1) / 2)] + known[Math.floor(known.length / 2)]) / 2;
  const isFlips = isRightOrWrong(state);
  const bins = isFlips ? [-1, 0, 1].map((it) => ({ low: it, high: it, examples: [] }))
    : emptyBins(Math.min(0, known[0]), Math.max(0, known.at(-1)), counts.equal > 0);
  gains.forEach((gain, i) => {
    if (gain === null) return;
    const bin = gain === 0 ? bins.find((it) => it.low === 0 && it.high === 0)
      : isFlips ? bins.find((it) => it.low === gain)
        // Away from 0 a bin holds its outer border; rounding never moves a gain across 0.
        : gain > 0 ? bins.find((it) => it.low >= 0 && gain <= it.high && it.high > 0) ?? bins.at(-1)
          : bins.findLast((it) => it.high <= 0 && gain >= it.low && it.low < 0) ?? bins[0];
    bin.examples.push(i);
  });
  return { bins, counts, known, median, isFlips };
}

/** Bins of one width, with a border at 0, so that none mixes better and worse. */
function emptyBins(low, high, hasEqual) {
  const step = (high - low) / N_BINS || 1;
  const [below, above] = [Math.ceil(-low / step - 1e-9), Math.ceil(high / step - 1e-9)];
  const bins = [];
  for (let i = -below; i < above; i += 1) bins.push({ low: i * step, high: (i + 1) * step, examples: [] });
  if (hasEqual) bins.splice(below, 0, { low: 0, high: 0, examples: [] });
  return bins;
}

/** What a bin holds, in words. */
function binText(state, bin) {
  const metric = RUNS[state.run].metrics[state.metric];
  const say = (it) => formatGain(metric.unit, it);
  if (isRightOrWrong(state)) {
    return { "-1": "right only under the second (lost)", 0: "the same under both", 1: "right only under the first (gained)" }[bin.low];
  }
  return bin.low === bin.high ? "no difference"
    : `${withUnit(`${say(bin.low)} to ${say(bin.high)}`, metric.difference_unit)}`;
}

/** The histogram: one stop for the keyboard, arrows move from bar to bar, Enter filters. */
function histogram(state, { bins }) {
  // As wide as there is room, so that the labels keep their size.
  const [width, height, gap] = [Math.min(720, Math.max(300, page.clientWidth - 48)), 150, 22];
  const most = Math.max(...bins.map((it) => it.examples.length), 1);
  const step = width / bins.length;
  const says = h("p", { class: "readout", role: "status" },
    "Arrow keys move from bar to bar; Enter shows the examples of one.");
  const stop = Math.min(state.bar, bins.length - 1);
  const groups = bins.map((bin, i) => {
    const n = bin.examples.length;
    const size = n === 0 ? 0 : Math.max(2, (height - gap - 14) * (n / most));
    const [x, y] = [i * step, height - gap - size];
    const side = bin.low === bin.high && bin.low === 0 ? "equal" : bin.high > 0 ? "better" : "worse";
    const words = `${binText(state, bin)}: ${counted(n, "example")}`;
    const isChosen = state.bin !== null && state.bin.low === bin.low && state.bin.high === bin.high;
    const g = s("g", { class: `bar ${side}`, tabindex: i === stop ? "0" : "-1", role: "button",
      "aria-label": words, "aria-pressed": String(isChosen) },
    s("title", {}, words),
    s("rect", { class: "hit", x, y: 0, width: step, height: height - gap }),
    s("rect", { class: "shape", x: x + step * 0.08, y, width: step * 0.84, height: size }),
    n > 0 && (step >= 28 || n === most) ? s("text", { x: x + step / 2, y: y - 4, "text-anchor": "middle" }, count(n)) : null);
    const choose = () => state.set({ bin: isChosen ? null : bin, bar: i, page: 0 }, "bars");
    g.addEventListener("focus", () => {
      state.bar = i;
      says.textContent = words;
    });
    g.addEventListener("mouseenter", () => { says.textContent = words; });
    g.addEventListener("click", choose);
    g.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: bins.length - 1 }[event.key];
      if (event.key === "Enter" || event.key === " ") choose();
      else if (to === undefined || !groups[to]) return;
      else {
        for (const it of groups) it.setAttribute("tabindex", it === groups[to] ? "0" : "-1");
        groups[to].focus();
      }
      event.preventDefault();
    });
    return g;
  });
  const name = `Examples by gain of ${sideName(state, state.a)} over ${sideName(state, state.b)}`;
  const svg = s("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": name },
    s("line", { class: "base", x1: 0, x2: width, y1: height - gap, y2: height - gap }), groups,
    binLabels(state, bins, step, { width, height }));
  return [svg, says];
}

/** Words or numbers below the bars. */
function binLabels(state, bins, step, { width, height }) {
  const label = (x, words, anchor = "middle") => s("text", { class: "label", x, y: height - 6, "text-anchor": anchor }, words);
  if (isRightOrWrong(state)) {
    return ["▼ lost", "the same", "▲ gained"].map((it, i) => label(step * (i + 0.5), it));
  }
  const { unit } = RUNS[state.run].metrics[state.metric];
  const zero = bins.findIndex((it) => it.low >= 0);
  const at = zero < 0 ? width : (zero + (bins[zero].low === bins[zero].high ? 0.5 : 0)) * step;
  const isFree = at > 95 && at < width - 95;
  return [
    bins[0].low < 0 ? label(0, `▼ ${formatGain(unit, bins[0].low)}`, "start") : null,
    isFree ? label(at, "0") : null,
    bins.at(-1).high > 0 ? label(width, `${formatGain(unit, bins.at(-1).high)} ▲`, "end") : null,
    s("line", { class: "zero", x1: at, x2: at, y1: 14, y2: height - 16 }),
  ];
}

/** What the statistics say of the pair, or why they do not. */
function verdictLine(state) {
  const run = RUNS[state.run];
  const metric = run.metrics[state.metric];
  if (state.a.run !== state.b.run) {
    return "Two runs: here are only the examples; `harness compare` judges them.";
  }
  if (!run.is_finished) return "The run is unfinished: no verdict.";
  const is = (it, a, b) => it.metric === state.metric && it.candidate === a && it.reference === b;
  const list = run.models[state.model].comparisons;
  const forth = list.find((it) => is(it, state.a.variant, state.b.variant));
  const back = list.find((it) => is(it, state.b.variant, state.a.variant));
  const it = forth ?? back;
  if (!it) {
    const isControl = [state.a, state.b].some((of) => of.variant === run.control);
    return `The tables hold no difference of this pair by ${metric.name}${
      run.control === null || isControl ? "" : ": variants are tested against the control"}.`;
  }
  if (it.gain === null) return `The pair could not be compared by ${metric.name}: ${METHODS[it.method] ?? it.method}.`;
  const names = [it.candidate, it.reference].map((of) => plain(run.variants[of].name));
  const interval = it.low_text ? ` [${it.low_text}, ${it.high_text}]` : "";
  const p = it.p_adjusted ? `, p ${it.p_adjusted.startsWith("<") ? "" : "= "}${it.p_adjusted}` : "";
  return `Gain of ${names[0]} over ${names[1]}: ${it.text}${interval} ${metric.difference_unit}${p}: ${it.verdict}${
    state.metric === run.primary ? "" : " (exploratory)"}.`;
}

/** The pair, its verdict and the spread of its differences. */
function pairSection(state) {
  const run = RUNS[state.run];
  const metric = run.metrics[state.metric];
  const of = spread(state);
  const source = metric.by_case?.kind === "column" ? run.case_metrics[metric.by_case.index].name : metric.name;
  const parts = [
    h("h2", { id: "pair" }, "Why: the examples ", h("span", { class: "of" }, `by ${metric.name}`)),
    pairChooser(state),
    h("p", { class: "lead" }, verdictLine(state)),
  ];
  if (metric.by_case === null) {
    parts.push(h("p", { class: "quiet" }, `${metric.name} has no value for a single example.`));
  } else if (of.known.length === 0) {
    parts.push(h("p", { class: "quiet" }, "No example has a value that can be compared on both sides."));
  } else {
    const { better, worse, equal, missing } = of.counts;
    const middle = of.isFlips ? "" : ` Median gain ${withUnit(formatGain(metric.unit, of.median), metric.difference_unit)}.`;
    const words = of.isFlips ? ["gained", "lost", "the same"] : ["better", "worse", "equal"];
    const left = missing === 0 ? "" : ` ${counted(missing, "example")} left out: no value, or other targets, on a side.`;
    const others = source === metric.name ? "" : ` By example this is ${source}.`;
    const ratio = metric.by_case.kind === "likelihood" && metric.by_case.per !== "none"
      ? " Over all examples the metric divides sums, so long targets count for more there." : "";
    parts.push(
      h("p", {}, `${count(better)} ${words[0]}, ${count(worse)} ${words[1]}, ${count(equal)} ${words[2]}.${middle}${left}`,
        h("span", { class: "quiet" }, others, ratio)),
      h("div", { id: "bars" }, histogram(state, of)),
      h("details", {}, h("summary", {}, "The chart as a table"),
        table("Examples by gain", ["gain", nh("examples")], of.bins.map((it) => [binText(state, it), n(count(it.examples.length))]))));
  }
  return parts;
}
