// The card of one function: made once, then changed in place, so that the focus stays where it is.

import {Curves, merge, number} from "./curves.js";

const SHARES = ["p50", "p90", "p99"];
const PAUSES = [[60, "1 minute"], [600, "10 minutes"], [3600, "1 hour"], [86400, "1 day"], [604800, "1 week"]];
const KINDS = ["success", "loading", "limited", "overload", "growth_limited", "quota", "failure", "timeout", "invalid",
  "ignored"];

function element(name, text = "", kind = "", ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

// Leaves alone what stands there already: a screen reader would say it again.
export function put(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function clock(seconds) {
  const at = new Date(Date.now() + seconds * 1000);
  const time = at.toLocaleTimeString("en-GB");
  return Math.abs(seconds) < 43200 ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

function lasting(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

export class Card {
  // `press(action, seconds)` does it and returns what went wrong, or "".
  constructor(facts, press) {
    this.name = facts.name;
    this.node = element("article", "", "card");
    const id = `f${Math.random().toString(36).slice(2)}`;
    const title = element("h2", facts.label);
    title.id = id;
    title.title = facts.name;
    this.node.setAttribute("aria-labelledby", id);
    this.state = element("span", "", "chip");
    this.breaker = element("span", "", "chip breaker");
    this.why = element("p", "", "why");
    this.node.append(element("div", "", "head", title, element("p", "", "chips", this.state, this.breaker)), this.why);
    this.#figures();
    const curves = element("div", "", "curves");
    this.curves = new Curves(curves, facts.label);
    this.node.append(curves, element("div", "", "tables", this.#latencies(), this.#outcomes()));
    this.#buttons(facts.label, press);
    this.policies = element("p", "", "policies");
    this.node.append(this.policies);
  }

  #figures() {
    this.figures = {};
    const list = element("dl", "", "figures");
    for (const [key, words] of [["rate", "Started"], ["in_flight", "In flight"], ["waiting", "Waiting"],
      ["allowed", "Pace allows"]]) {
      this.figures[key] = element("dd");
      list.append(element("div", "", "", element("dt", words), this.figures[key]));
    }
    this.node.append(list);
  }

  #latencies() {
    this.latencies = {};
    const rows = element("tbody");
    for (const share of SHARES) {
      this.latencies[share] = element("td");
      const head = element("th", share);
      head.scope = "row";
      rows.append(element("tr", "", "", head, this.latencies[share]));
    }
    return element("table", "", "", element("caption", "Latency"), rows);
  }

  #outcomes() {
    this.outcomes = new Map();
    this.counts = element("tbody");
    return element("table", "", "", element("caption", "Outcomes"), this.counts);
  }

  #buttons(label, press) {
    this.buttons = element("div", "", "buttons");
    this.wrong = element("p", "", "wrong");
    this.wrong.setAttribute("role", "alert");
    const choice = element("select");
    for (const [seconds, words] of PAUSES) {
      const option = element("option", words);
      option.value = seconds;
      choice.append(option);
    }
    const of = element("span", ` ${label}`, "unseen");
    const how = element("label", "", "", element("span", "Pause for", ""), of.cloneNode(true), choice);
    this.pause = element("button", "Pause", "", of.cloneNode(true));
    this.resume = element("button", "Resume", "", of);
    for (const [button, action] of [[this.pause, "pause"], [this.resume, "resume"]]) {
      button.type = "button";
      button.dataset.action = action;
      button.addEventListener("click", async () => {
        if (button.getAttribute("aria-disabled") === "true") return;
        this.pause.setAttribute("aria-disabled", "true");
        this.resume.setAttribute("aria-disabled", "true");
        put(this.wrong, await press(action, Number(choice.value)));
        this.#usable();
      });
    }
    this.with = element("p", "", "shares");
    this.buttons.append(how, this.pause, this.resume, this.wrong, this.with);
    this.node.append(this.buttons);
  }

  // Focus never leaves a button because it cannot be used just now.
  #usable() {
    this.pause.setAttribute("aria-disabled", "false");
    this.resume.setAttribute("aria-disabled", String(!["paused", "holding", "exhausted", "cold", "mixed"].includes(this.word)));
  }

  // Shows the figures; returns what is worth saying aloud, or "".
  show(facts, status) {
    const before = [this.word, this.circuit];
    this.word = facts.pace?.state ?? "none";
    this.circuit = facts.breaker?.state ?? "none";
    this.state.hidden = !facts.pace && Boolean(facts.breaker);
    put(this.state, facts.pace ? this.word : "no pace");
    this.state.dataset.state = this.word;
    this.breaker.hidden = !facts.breaker;
    put(this.breaker, facts.breaker ? `circuit ${this.circuit.replace("_", "-")}` : "");
    this.breaker.dataset.state = this.circuit;
    put(this.why, why(facts));
    this.#fill(facts);
    this.kept = merge(this.kept, facts.curves, status.bin, status.bins);
    this.curves.draw(this.kept.values, status);
    this.buttons.hidden = !(status.actions && facts.pace);
    if (this.pause.getAttribute("aria-disabled") !== "true" || before[0] === undefined) this.#usable();
    put(this.with, facts.shares.length ? `Pauses with it, as they share its pace: ${facts.shares.join(", ")}` : "");
    put(this.policies, `@${facts.policies.join(" @")}`);
    if (before[0] === undefined || (before[0] === this.word && before[1] === this.circuit)) return "";
    return `${facts.label}: ${before[0] !== this.word ? this.#said(facts) : `circuit ${this.circuit.replace("_", "-")}`}`;
  }

  #said(facts) {
    return this.word === "paused" ? `paused until ${clock(facts.pace.gate_in ?? 0)}` : `${this.word}, ${facts.pace?.why ?? ""}`;
  }

  #fill(facts) {
    const {pace, latency} = facts;
    put(this.figures.rate, `${number(facts.rate)}/s`);
    put(this.figures.in_flight, number(facts.in_flight) + (facts.limit === null ? "" : ` of ${number(facts.limit)}`)
      + (facts.share === null ? "" : `, ${number(facts.share)} a key`));
    put(this.figures.waiting, number(facts.waiting));
    put(this.figures.allowed, pace ? allowed(pace) : "–");
    for (const share of SHARES) put(this.latencies[share], latency ? `${number(latency[share])} s` : "–");
    const found = KINDS.filter((kind) => facts.outcomes[kind]).map((kind) => [kind, facts.outcomes[kind]]);
    for (const [policy, count] of Object.entries(facts.rejected)) found.push([`not started (${policy})`, count]);
    for (const [words, count] of found) {
      if (!this.outcomes.has(words)) {
        const value = element("td");
        const head = element("th", words.replace("_", " "));
        head.scope = "row";
        this.counts.append(element("tr", "", "", head, value));
        this.outcomes.set(words, value);
      }
      put(this.outcomes.get(words), count.toLocaleString("en"));
    }
    if (!found.length && !this.none) {
      this.none = element("tr", "", "", element("td", "none yet"));
      this.counts.append(this.none);
    } else if (found.length && this.none) {
      this.none.remove();
      this.none = undefined;
    }
  }
}

// Whichever of the two bounds it now: calls a second, or calls in flight.
export function allowed({rate, window, latency}) {
  if (rate === null && window === null) return "–";
  const byWindow = window !== null && (rate === null || (latency !== null && window / latency < rate));
  return byWindow ? `${number(Math.floor(window))} in flight` : `${number(rate)}/s`;
}

function why({pace, breaker}) {
  const said = [];
  if (pace?.state === "paused") said.push(`until ${clock(pace.gate_in ?? 0)}`);
  if (pace) said.push(pace.why);
  if (pace?.since) said.push(`since ${clock(-pace.since)}`);
  if (pace?.next_probe_in && pace.state !== "paused") said.push(`next probe in ${lasting(pace.next_probe_in)}`);
  if (breaker?.state === "open") {
    said.push(`${Math.round(100 * breaker.failure_rate)}% of the calls failed`, `trials in ${lasting(breaker.open_in ?? 0)}`);
  } else if (breaker?.state === "half_open") {
    said.push("trials decide whether the circuit closes");
  }
  return said.join(" · ");
}
