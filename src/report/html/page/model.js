// The runs of the payload, and what can be asked of them. Every judged number was made by
// the program; here are only the values of single cases.

const DATA = JSON.parse(document.getElementById("data").textContent);

/** JSON has no infinity; there it is a text. */
function number(it) {
  if (typeof it !== "string") return it;
  return it === "-inf" ? -Infinity : it === "inf" ? Infinity : NaN;
}

/** The text of that number. */
function text(index) {
  return index === null ? null : DATA.texts[index];
}

/** Adds to a run what makes its cases and tokens quick to find. */
function prepared(run) {
  const { cases, tokens } = run;
  run.places = new Map();
  cases.example.forEach((example, i) => {
    const key = `${cases.model[i]}/${cases.variant[i]}/${example}`;
    if (!run.places.has(key)) run.places.set(key, []);
    run.places.get(key).push(i);
  });
  run.starts = new Map(cases.prompt_starts.map(([model, variant, it]) => [`${model}/${variant}`, it]));
  run.byId = new Map(run.examples.map((it, i) => [it.id, i]));
  run.searchable = [];
  if (tokens) {
    tokens.places = new Map();
    let start = 0;
    tokens.example.forEach((example, i) => {
      const key = `${tokens.model[i]}/${tokens.variant[i]}/${example}`;
      if (!tokens.places.has(key)) tokens.places.set(key, []);
      tokens.places.get(key).push({ choice: tokens.choice[i], start, end: start + tokens.n_tokens[i] });
      start += tokens.n_tokens[i];
    });
  }
  return run;
}

const RUNS = DATA.runs.map(prepared);

/** Indices of the cases of a side on an example of the chosen run; empty if it has none.
 *
 * A side is a variant of a run. Examples of two runs are the same if id and fields are, and
 * models if their names are. */
function casesOf(state, side, example) {
  const found = place(state, side, example);
  return found === null ? [] : found.run.places.get(found.key) ?? [];
}

/** Where a side's cases on an example of the chosen run are found. */
function place(state, side, example) {
  const here = RUNS[state.run];
  const run = RUNS[side.run];
  let [there, model] = [example, state.model];
  if (run !== here) {
    const of = here.examples[example];
    there = run.byId.get(of.id);
    model = run.models.findIndex((it) => it.name === here.models[state.model].name);
    if (there === undefined || model < 0 || run.examples[there].row_digest !== of.row_digest) return null;
  }
  return { run, model, example: there, key: `${model}/${side.variant}/${there}` };
}

/** A metric of a side's run, by its name in the chosen run. */
function metricOf(state, side) {
  const metric = RUNS[state.run].metrics[state.metric];
  return side.run === state.run ? metric : RUNS[side.run].metrics.find((it) => it.name === metric.name);
}

/** The value of the chosen metric for one side and example; null where there is none. */
function valueOf(state, side, example) {
  const by = metricOf(state, side)?.by_case;
  const list = casesOf(state, side, example);
  if (!by || list.length === 0) return null;
  const { cases } = RUNS[side.run];
  const first = list[0];
  if (by.kind === "greedy_match") return cases.greedy_match[first];
  if (by.kind === "likelihood") {
    const sum = number(cases.loglikelihood[first]);
    if (sum === null) return null;
    const divisor = { none: 1, tokens: cases.n_target_tokens[first], bytes: cases.n_target_bytes[first] }[by.per];
    if (!divisor) return null;
    return (by.is_bits ? -sum / Math.LN2 : sum) / divisor;
  }
  const column = cases.metrics[by.index];
  if (!by.is_of_all_repeats) return number(column[first]);
  // As the statistics do: the mean of all repeats, or nothing if one is missing.
  const values = list.map((it) => number(column[it]));
  return values.includes(null) ? null : values.reduce((a, b) => a + b, 0) / values.length;
}

/** Whether log-likelihoods of two cases may be held against each other. */
function isComparable(state, example) {
  const by = RUNS[state.run].metrics[state.metric].by_case;
  if (by?.kind !== "likelihood") return true;
  const [a, b] = [state.a, state.b].map((side) => {
    const { cases } = RUNS[side.run];
    const first = casesOf(state, side, example)[0];
    return { target: cases.target[first], n: by.per === "tokens" ? cases.n_target_tokens[first] : 0 };
  });
  return a.target === b.target && a.n === b.n;
}

/** The gain of side a over side b on an example: positive is better; null if it cannot be told. */
function gainOf(state, example) {
  const a = valueOf(state, state.a, example);
  const b = valueOf(state, state.b, example);
  if (a === null || b === null || !isComparable(state, example)) return null;
  const gain = RUNS[state.run].metrics[state.metric].is_higher_better ? a - b : b - a;
  return Number.isNaN(gain) ? null : gain;
}

/** Whether the chosen metric says of a single case of either side that it is right or wrong. */
function isRightOrWrong(state) {
  return [state.a, state.b].every((side) => {
    const by = metricOf(state, side)?.by_case;
    return by?.kind === "greedy_match" || (by?.kind === "column" && by.is_right_or_wrong);
  });
}

/** Whether a case went wrong, by the chosen metric or else by its choices: null where neither
 * says so. */
function isFailure(state, side, example) {
  const { cases } = RUNS[side.run];
  const list = casesOf(state, side, example);
  if (list.length === 0) return false;
  if (list.some((it) => cases.statuses[cases.status[it]] !== "ok")) return true;
  if (isRightOrWrong(state)) {
    const value = valueOf(state, side, example);
    return value === null ? null : value < 1;
  }
  const [predicted, right] = [cases.predicted_choice[list[0]], cases.target_choice[list[0]]];
  return predicted === null || right === null ? null : predicted !== right;
}

/** Whether a side has a case without a score on an example. */
function isUnscored(state, side, example) {
  const { cases } = RUNS[side.run];
  return casesOf(state, side, example).some((it) => cases.statuses[cases.status[it]] !== "ok");
}

/** The name of a side; the run stands behind it where it is not the one that is shown. */
function sideName(state, side) {
  const { run, variants } = RUNS[side.run];
  const { name } = variants[side.variant];
  return plain(side.run === state.run ? name : `${name} · ${run}`);
}

/** The start of a case's prompt that all prompts of its variant share, and the rest. */
function promptOf(run, index) {
  const { cases } = run;
  const start = text(run.starts.get(`${cases.model[index]}/${cases.variant[index]}`) ?? null) ?? "";
  return { start, rest: text(cases.prompt[index]) };
}
