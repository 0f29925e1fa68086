// Asks for the figures. Where several processes answer at one address, each answer is that of one of them: they are kept
// apart, and the one that is shown is asked for again until it answers. A connection that is kept alive stays with its
// process, so others are reached only while that one is busy: hence several requests at once.

const AGAIN = 5;
const FORGOTTEN = 60000;

export class SignedOut extends Error {}

export class Processes {
  constructor() {
    this.seen = new Map(); // by process: its last status, and when that came
    this.shown = null;
  }

  // Its latest status, or null where others answered instead.
  async poll() {
    const first = await this.#ask();
    this.#keep(first);
    if (first.process === this.shown) return first;
    const others = await Promise.all(Array.from({length: AGAIN}, () => this.#ask()));
    for (const status of others) this.#keep(status);
    return others.findLast((status) => status.process === this.shown) ?? null;
  }

  #keep(status) {
    this.seen.set(status.process, {status, at: Date.now()});
    this.#forget();
    if (!this.seen.has(this.shown)) this.shown = status.process;
  }

  async #ask() {
    const last = this.seen.get(this.shown)?.status;
    const query = last ? `?process=${this.shown}&since=${last.bin}` : "";
    return read(await fetch(`status.json${query}`, {cache: "no-store", credentials: "same-origin"}));
  }

  #forget() {
    for (const [process, {at}] of this.seen) {
      if (Date.now() - at > FORGOTTEN) this.seen.delete(process);
    }
  }

  choose(process) {
    this.shown = process;
    this.seen.set(process, {status: null, at: Date.now()}); // all of its curves are wanted
  }

  // Presses a button of the process shown; returns what went wrong, or "".
  async press(action, name, seconds) {
    const body = JSON.stringify({action, function: name, process: this.shown, seconds});
    const key = document.querySelector("meta[name=form-key]").content;
    for (let tries = 0; tries < 6 * AGAIN; tries += 1) {
      for (let busy = tries % AGAIN; busy > 0; busy -= 1) this.#ask().catch(() => null);
      let answer;
      try {
        answer = await fetch("act", {method: "POST", body, credentials: "same-origin",
          headers: {"Content-Type": "application/json", "X-Form-Key": key}});
      } catch {
        return "The server did not answer.";
      }
      if (answer.ok) return "";
      if (answer.status !== 409) return refusal(answer);
    }
    return "Other processes answered, not the one that is shown.";
  }
}

async function refusal(answer) {
  try {
    return `Not done: ${(await answer.json()).error}.`;
  } catch {
    return `Not done: the server said ${answer.status}.`;
  }
}

async function read(answer) {
  if (answer.status === 401 || answer.status === 403) throw new SignedOut();
  if (!answer.ok) throw new Error(`the server said ${answer.status}`);
  return answer.json();
}
