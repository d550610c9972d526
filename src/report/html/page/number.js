// Numbers of single cases, rounded as src/report/number.rs rounds those of a run;
// tests/html/numbers.json holds one against the other.

/** What stands where there is no number. */
const NOTHING = "–";

/** Rounded to so many decimals, ties to even as Rust does; what rounds to 0 has no sign. */
function fixed(value, decimals) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const size = Math.abs(value);
  let text = size.toFixed(decimals);
  // toFixed is exact but rounds ties up. 40 decimals show whether it was a tie: a double that
  // is halfway between two such numbers has no digits behind the next one.
  const exact = size.toFixed(40);
  const end = exact.indexOf(".") + 1 + decimals;
  if (/^50*$/.test(exact.slice(end)) && "13579".includes(text.at(-1))) {
    text = decimals === 0 ? exact.slice(0, end - 1) : exact.slice(0, end);
  }
  return value < 0 && /[1-9]/.test(text) ? `-${text}` : text;
}

/** A value in the metric's unit, without the unit; fractions are percentages. */
function formatValue(unit, value) {
  if (value === null) return NOTHING;
  if (unit === "%") return fixed(100 * value, 1);
  const size = Math.abs(value);
  switch (unit) {
    case "points": return fixed(value, 1);
    case "nats": return fixed(value, 2);
    case "nats/byte": return fixed(value, 4);
    case "nats/token": case "bits/byte": return fixed(value, 3);
  }
  if (size >= 1e6 && Number.isFinite(value)) return value.toExponential(2).replace("e+", "e");
  if (size >= 1e3) return fixed(value, 0);
  return fixed(value, size >= 1e2 ? 1 : 3);
}

/** A gain, with its sign where it is not 0. */
function formatGain(unit, gain) {
  const text = formatValue(unit, gain);
  return gain > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

/** A count with commas. */
function count(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `1 case`, `2 cases`. */
function counted(n, noun) {
  return `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
}

/** A value with its unit behind it. */
function withUnit(text, unit) {
  return unit === "" || text === NOTHING ? text : `${text} ${unit}`;
}

/** Round numbers that cover `low` to `high`, about `n` of them, and their decimals. */
function ticks(low, high, n) {
  const rough = (high - low) / n;
  if (!(rough > 0) || !Number.isFinite(rough)) return { at: [low], decimals: 3 };
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((it) => it * power).find((it) => it >= rough * 0.999);
  const at = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) at.push(i * step);
  return { at, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}
