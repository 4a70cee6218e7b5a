// Figures, times and records as people read them.

export function count(number) {
  return (number ?? 0).toLocaleString("en");
}

/** What grew between two answers, by the second. */
export function rate(now, before, seconds) {
  if (before === undefined || !(seconds > 0)) return "–";
  const value = Math.max(0, now - before) / seconds;
  return `${value >= 100 || value === 0 ? count(Math.round(value)) : value.toFixed(1)}/s`;
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (seconds >= size) return `≤ ${Number((seconds / size).toPrecision(3))} ${unit}`;
  }
  return "≤ 1 µs";
}

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  let [value, unit] = [number, "B"];
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    [value, unit] = [value / 1024, next];
  }
  return `${Number(value.toPrecision(3))} ${unit}`;
}

export function date(unixMs) {
  return unixMs ? new Date(unixMs).toLocaleString() : "–";
}

export function short(digest) {
  return digest ? digest.slice(0, 12) : "–";
}

/** JSON whose long numbers keep their digits, where the browser can. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const source = context?.source;
    const isInexact = typeof value === "number" && source !== undefined && String(value) !== source;
    return isInexact && JSON.rawJSON ? JSON.rawJSON(source) : value;
  });
}

export function pretty(value) {
  return JSON.stringify(value, null, 2);
}

/** The lines of two texts, each with whether it is in one of them alone. */
export function difference(before, after) {
  const [left, right] = [before.split("\n"), after.split("\n")];
  // Beyond this nobody reads line by line, and the table would grow with the square.
  if (left.length * right.length > 1_000_000) return [left.map((line) => [line, false]), right.map((line) => [line, false])];
  const longest = Array.from({ length: left.length + 1 }, () => new Uint16Array(right.length + 1));
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      longest[i][j] = left[i] === right[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const [removed, added] = [[], []];
  let [i, j] = [0, 0];
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      removed.push([left[i++], false]);
      added.push([right[j++], false]);
    } else if (j >= right.length || (i < left.length && longest[i + 1][j] >= longest[i][j + 1])) {
      removed.push([left[i++], true]);
    } else {
      added.push([right[j++], true]);
    }
  }
  return [removed, added];
}
