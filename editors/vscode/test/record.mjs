// Types sessions into a real editor, and records what it showed: `record.mjs TASK RESULT`, started
// by tests/editors/record.py, which says what is in the two files.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Editor } from "./editor.mjs";
import { now } from "./wire.mjs";

const PLAIN = {
  "editor.autoClosingBrackets": "never",
  "editor.autoClosingDelete": "never",
  "editor.autoClosingQuotes": "never",
  "editor.autoIndent": "none",
  "editor.detectIndentation": false,
  "editor.occurrencesHighlight": "off",
  "editor.suggestOnTriggerCharacters": false,
  "editor.trimAutoWhitespace": false,
  "editor.useTabStops": false,
};
const COMPLETION = "textDocument/inlineCompletion";

const [taskFile, resultFile] = process.argv.slice(2);
const { speed, sessions } = JSON.parse(await readFile(taskFile, "utf8"));
/** How many requests a session may have: their numbers begin anew with each server. */
const REQUESTS = 1_000_000;

const editor = await Editor.start();
const result = { keys: [], rests: [], frames: [], offers: [], server: {} };
try {
  result.editor = `VS Code ${await editor.version()}`;
  for (const [number, session] of sessions.entries()) {
    const window = await begin(session);
    result.keys.push(...(await type(window, session.keys)));
    await window.untilAnswered();
    result.rests.push(now());
    assert.ok((await window.save()) === session.after, "the file holds what was typed");
    const { records } = await window.wire.ask("mercury/statistics", { since: 0 });
    const numbered = (request) => number * REQUESTS + request;
    for (const { request, total_ms } of records) {
      result.server[numbered(request)] = total_ms;
    }
    result.offers.push(
      ...offers(window.wire).map((offer) => ({ ...offer, request: numbered(offer.request) })),
    );
    result.frames.push(...(await window.page.evaluate(() => window.mercuryTyping.frames)));
    await editor.closeWindows();
  }
  await writeFile(resultFile, JSON.stringify(result));
} finally {
  await editor.stop();
}

/** A window with the session's file, and the cursor where it is typed. */
async function begin({ before, line, column }) {
  const window = await editor.open(before, {
    command: [process.env.MERCURY_SERVER],
    settings: PLAIN,
    size: { width: 1400, height: 800 },
  });
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
  const { keyboard } = window.page;
  await keyboard.press("Control+g");
  await window.until("a line is asked for", (frame) => frame.palette);
  await keyboard.type(`${line}:${column}`);
  await keyboard.press("Enter");
  const place = `Ln ${line}, Col ${column}`;
  await window.until(place, (frame) => !frame.palette && frame.place === place);
  await window.page.evaluate(watchTyping);
  return window;
}

/** When the first key of each stroke went down. */
async function type({ page }, keys) {
  const { keyboard } = page;
  const firsts = [0];
  await page.evaluate(() => window.mercuryTyping.downs.splice(0));
  let due = performance.now();
  for (const { wait_ms, erase, text } of keys) {
    due += wait_ms / speed;
    await sleep(Math.max(0, due - performance.now()));
    const strokes = [...Array(erase).fill("Backspace"), ...text.replaceAll("\n", "\r")];
    for (const stroke of strokes) {
      await keyboard.press(stroke === "\r" ? "Enter" : stroke);
    }
    firsts.push(firsts.at(-1) + strokes.length);
  }
  const downs = await page.evaluate(() => window.mercuryTyping.downs);
  assert.equal(downs.length, firsts.pop(), "every key went down once");
  return firsts.map((first) => downs[first]);
}

/** What each answer would have made of the line at its cursor, and when that was asked for. */
function offers(wire) {
  const documents = new Map();
  const asked = new Map();
  const found = [];
  for (const { from, at, message } of wire.said) {
    const { method, params, id } = message;
    if (method === "textDocument/didOpen") {
      documents.set(params.textDocument.uri, params.textDocument.text.split("\n"));
    } else if (method === "textDocument/didChange") {
      const uri = params.textDocument.uri;
      documents.set(uri, params.contentChanges.reduce(changed, documents.get(uri)));
    } else if (method === COMPLETION) {
      const { line } = params.position;
      asked.set(id, { at, text: documents.get(params.textDocument.uri)[line] });
    } else if (from === "server" && method === undefined && asked.has(id)) {
      for (const { insertText, range } of message.result ?? []) {
        const line = asked.get(id).text.slice(0, range.start.character) + insertText;
        found.push({ request: id, asked: asked.get(id).at, line });
      }
    }
  }
  return found;
}

/** The lines after a change. */
function changed(lines, { range: { start, end }, text }) {
  const before = lines[start.line].slice(0, start.character);
  const after = lines[end.line].slice(end.character);
  return [
    ...lines.slice(0, start.line),
    ...`${before}${text}${after}`.split("\n"),
    ...lines.slice(end.line + 1),
  ];
}

/** Runs in the page: keeps when keys went down, and the cursor's line at each frame that changed. */
function watchTyping() {
  const plain = (element) => element.textContent.replace(/\u00a0/g, " ");
  const downs = [];
  const frames = [];
  window.mercuryTyping = { downs, frames };
  const keep = (event) => downs.push(performance.timeOrigin + event.timeStamp);
  window.addEventListener("keydown", keep, { capture: true });
  let last = "";
  const look = () => {
    const root = document.querySelector(".editor-group-container .monaco-editor");
    const top = root?.querySelector(".cursors-layer .cursor")?.style.top;
    const line = [...(root?.querySelectorAll(".view-lines > .view-line") ?? [])].find(
      (one) => one.style.top === top,
    );
    if (line !== undefined) {
      const inline = [...line.querySelectorAll(".ghost-text-decoration, .ghost-text")].map(plain);
      const zones = [...root.querySelectorAll(".view-zones .suggest-preview-text .view-line")];
      const below = zones.map(plain);
      const text = [plain(line), ...below].join("\n");
      const ghost = inline.length || below.length ? [inline.join(""), ...below].join("\n") : "";
      if (`${text}\0${ghost}` !== last) {
        last = `${text}\0${ghost}`;
        frames.push({ at: performance.timeOrigin + performance.now(), line: text, ghost });
      }
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
