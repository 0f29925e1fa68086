// Draws the curves of one function: three small pictures over the last fifteen minutes, each described in words too.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;

const PICTURES = [
  {title: "Calls/s", unit: "", least: 1, lines: ["answered", "refused", "failed"], rates: true},
  {title: "In flight and waiting", unit: "", least: 4, lines: ["in_flight", "waiting"]},
  {title: "Mean latency", unit: " s", least: 0.1, lines: ["latency"]},
];
const NAMES = {answered: "answered", refused: "refused", failed: "failed", in_flight: "in flight", waiting: "waiting",
  latency: "of answers"};

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(2)));
}

// What was told before and what is told now, as arrays of `bins` values that end with the newest bin.
export function merge(before, told, newest, bins) {
  const merged = {};
  for (const name of Object.keys(told)) {
    if (name === "first") continue;
    const nothing = name === "latency" ? null : 0;
    merged[name] = Array.from({length: bins}, (_, at) => {
      const bin = newest - bins + 1 + at;
      if (bin >= told.first) return told[name][bin - told.first] ?? nothing;
      return before?.values[name][bin - before.newest + bins - 1] ?? nothing;
    });
  }
  return {newest, values: merged};
}

export class Curves {
  constructor(parent, label) {
    this.label = label;
    this.pictures = PICTURES.map((picture) => this.#picture(parent, picture));
  }

  #picture(parent, picture) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("span");
    title.className = "title";
    title.textContent = picture.title;
    caption.append(title);
    const nows = picture.lines.map((line) => {
      const key = document.createElement("span");
      key.className = `key ${line}`;
      const value = document.createElement("b");
      key.append(`${NAMES[line]} `, value);
      caption.append(key);
      return value;
    });
    const plot = document.createElement("div");
    plot.className = "plot";
    const top = document.createElement("span");
    top.className = "top-of-scale";
    top.setAttribute("aria-hidden", "true");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("preserveAspectRatio", "none");
    const paths = picture.lines.map((line) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", `line ${line}`);
      path.setAttribute("vector-effect", "non-scaling-stroke");
      svg.append(path);
      return path;
    });
    const ends = document.createElement("p");
    ends.className = "ends";
    ends.setAttribute("aria-hidden", "true");
    const [from, to] = [document.createElement("span"), document.createElement("span")];
    to.textContent = "now";
    ends.append(from, to);
    plot.append(top, svg);
    figure.append(caption, plot, ends);
    parent.append(figure);
    return {...picture, nows, top, svg, paths, from};
  }

  draw(values, status) {
    for (const picture of this.pictures) {
      const lines = picture.lines.map((line) => picture.rates ? rates(values[line], status) : values[line]);
      const most = Math.max(picture.least, ...lines.flat().filter((value) => value !== null));
      const scale = nice(most);
      picture.top.textContent = number(scale) + picture.unit;
      picture.svg.setAttribute("viewBox", `0 0 ${status.bins - 1} ${HEIGHT}`);
      const span = number(status.bins * status.width / 60);
      picture.from.textContent = `${span} min ago`;
      const words = lines.map((line, at) => {
        picture.paths[at].setAttribute("d", path(at ? seen(line) : line, scale));
        const now = number(latest(line)) + (latest(line) === null ? "" : picture.unit);
        if (picture.nows[at].textContent !== now) picture.nows[at].textContent = now;
        const highest = Math.max(0, ...line.filter((value) => value !== null));
        return `${NAMES[picture.lines[at]]} ${now}, at most ${number(highest)}${picture.unit}`;
      });
      picture.svg.setAttribute("aria-label", `${picture.title} of ${this.label}, last ${span} minutes: ${words.join("; ")}`);
    }
  }
}

// The newest bin is not over: its count is one of less time, and too little of it says nothing.
function rates(counts, status) {
  return counts.map((count, at) => {
    if (at < counts.length - 1) return count / status.width;
    return status.into_bin >= status.width / 2 ? count / status.into_bin : counts[at - 1] / status.width;
  });
}

function latest(line) {
  return line.at(-1) ?? line.at(-2) ?? null;
}

// One, two or five, and zeros: the top of a scale.
function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * ([1, 2, 5].find((step) => step * power >= most * 0.999) ?? 10);
}

// Only the first line of a picture is drawn where it is nought: they would lie on one another.
function seen(line) {
  return line.map((value, at) => (value || line[at - 1] || line[at + 1] ? value : null));
}

function path(line, scale) {
  let drawn = "", pen = "M";
  line.forEach((value, at) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const y = (HEIGHT - 1 - (HEIGHT - 2) * value / scale).toFixed(1);
    // A bin without neighbours is a short dash.
    drawn += pen === "M" ? `M${Math.max(0, at - 0.5)} ${y}L${at} ${y}` : `L${at} ${y}`;
    pen = "L";
  });
  return drawn;
}
