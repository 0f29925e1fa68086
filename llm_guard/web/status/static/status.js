// The page: asks every two seconds while it is seen, and keeps a card for each function.

import {Card, put} from "./card.js";
import {Processes, SignedOut} from "./processes.js";

const EVERY = 2000;
const cards = new Map();
const processes = new Processes();
const [live, note, news, room, chooser, choice, whose, signOut] =
  ["live", "note", "news", "cards", "choose", "processes", "process", "sign-out"].map((id) => document.getElementById(id));
let timer = 0;
let over = false;
let cardsOf = null; // the process

function say(state, text) {
  live.dataset.live = state;
  put(live, text);
}

function show(status) {
  if (cardsOf !== status.process) { // another process: its own curves
    cards.forEach((card) => card.node.remove());
    cards.clear();
    cardsOf = status.process;
  }
  const said = [];
  const names = new Set(status.functions.map((facts) => facts.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.node.remove();
      cards.delete(name);
    }
  }
  status.functions.forEach((facts, at) => {
    let card = cards.get(facts.name);
    if (!card) {
      card = new Card(facts, (action, seconds) => press(action, facts.name, seconds));
      cards.set(facts.name, card);
      room.insertBefore(card.node, room.children[at] ?? null);
    }
    said.push(card.show(facts, status));
  });
  const words = said.filter(Boolean).join(". ");
  if (words) news.textContent = words;
  note.hidden = status.functions.length > 0 && !status.left_out;
  put(note, status.left_out ? `${status.left_out} more functions are not shown.` : "No function is guarded in this process yet.");
}

function showProcesses() {
  const several = processes.seen.size > 1;
  chooser.hidden = !several;
  put(whose, several ? "Several processes answer here: figures and buttons are those of" : `Figures are those of process ${processes.shown} alone`);
  const known = [...processes.seen.keys(), processes.shown].sort((a, b) => a - b);
  const wanted = [...new Set(known)].map(String);
  if (wanted.join() !== [...choice.options].map((option) => option.value).join()) {
    choice.replaceChildren(...wanted.map((process) => new Option(process, process)));
  }
  choice.value = String(processes.shown);
}

async function press(action, name, seconds) {
  const wrong = await processes.press(action, name, seconds);
  await look();
  return wrong;
}

async function look() {
  clearTimeout(timer);
  if (over) return;
  try {
    const status = await processes.poll();
    if (status) show(status);
    showProcesses();
    say("on", status ? "Live" : `Process ${processes.shown} has not answered`);
  } catch (error) {
    if (error instanceof SignedOut) {
      over = true;
      say("off", "Signed out: reload the page");
      return;
    }
    say("off", "No answer, trying again");
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) look();
});
choice.addEventListener("change", () => {
  processes.choose(Number(choice.value));
  look();
});
signOut.hidden = document.querySelector("meta[name=way-in]").content !== "cookie";
signOut.addEventListener("click", async () => {
  const key = document.querySelector("meta[name=form-key]").content;
  await fetch("sign-out", {method: "POST", credentials: "same-origin", headers: {"X-Form-Key": key}});
  location.reload();
});
look();
