// A person at a real editor with the extension, the real server and mini: what is seen and saved.
//
// What mini writes is nobody's business here: it is read off the screen. What is shown must fit the
// text around it, be what accepting inserts, and come and go as the keys say.

import assert from "node:assert/strict";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { Editor } from "./editor.mjs";

const CIRCLE = "import math\n\n\ndef area(radius):\n    return math\n";
const LAST = "    return math.";
const SERVER = process.env.MERCURY_SERVER;
const PATIENT = {
  "mercury.deadlineMs": 60_000,
  "mercury.invokedDeadlineMs": 60_000,
  "mercury.minConfidence": 0,
  "mercury.distraction": 0,
};
const MISSING = "the weights are not on this machine";
/** The text of a terminal is not a picture. */
const LEGIBLE_TERMINAL = { "terminal.integrated.gpuAcceleration": "off" };

let editor;
before(async () => (editor = await Editor.start()));
afterEach(() => editor.closeWindows());
after(() => editor?.stop());

/** A window with the real server, ready, and the cursor behind `at`. */
async function open(text, { at, settings, ...options } = {}) {
  const all = { ...PATIENT, ...settings };
  const window = await editor.open(text, { command: [SERVER], settings: all, ...options });
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
  await window.goTo(at);
  return window;
}

/** A window in which a ghost stands behind the last line. */
async function openCircle() {
  const window = await open(CIRCLE);
  await window.type(".");
  await window.untilGhost();
  await window.untilAnswered();
  return window;
}

/** The real server, where there are no weights and no network. */
async function withoutWeights() {
  const program = join(editor.home, "without-weights");
  const cache = join(editor.home, "empty");
  await writeFile(
    program,
    `#!/bin/sh\nMERCURY_CACHE='${cache}' MERCURY_OFFLINE=1 exec '${SERVER}' "$@"\n`,
  );
  await chmod(program, 0o755);
  return program;
}

const unwrapped = (text) => text.replaceAll("\n", "");
const lineOf = (frame, start) => frame.lines.find((line) => line.startsWith(start));

test("ghost text appears for a real gap and is not in the document", async () => {
  const window = await openCircle();
  assert.match(window.frame.ghost, /radius/);
  assert.equal(lineOf(window.frame, LAST), LAST + window.frame.ghost);
  assert.equal(window.frame.place, `Ln 5, Col ${LAST.length + 1}`, "the cursor is before it");
  assert.deepEqual(window.frame.messages, [], "nothing is complained about");
  assert.equal(await window.save(), CIRCLE.replace("    return math\n", `${LAST}\n`));
});

test("Tab writes what was shown", async () => {
  const window = await openCircle();
  const { ghost } = window.frame;
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  assert.equal(await window.save(), CIRCLE.replace("    return math\n", `${LAST}${ghost}\n`));
});

test("accepting a word leaves the rest as ghost, without a flicker", async () => {
  const window = await openCircle();
  const first = window.frame;
  const seen = window.frames.length - 1;
  const { changes } = window.wire;
  await window.press("Control+ArrowRight");
  await window.until("a word is taken", (frame) => frame.ghost !== first.ghost);
  await window.wire.until("the word", (wire) => wire.changes > changes);
  const frame = await window.untilAnswered();
  const word = first.ghost.slice(0, first.ghost.length - frame.ghost.length);
  assert.match(word, /^\w+$/);
  assert.equal(frame.ghost, first.ghost.slice(word.length));
  assert.deepEqual(shown(window, seen), [LAST + first.ghost]);
  assert.match(await window.save(), new RegExp(`return math\\.${word}\n`));
});

test("typing through keeps the ghost without a flicker", async () => {
  const window = await openCircle();
  const first = window.frame;
  const seen = window.frames.length - 1;
  for (const key of first.ghost.slice(0, 5)) {
    await window.type(key);
    await window.untilAnswered();
  }
  assert.deepEqual(shown(window, seen), [LAST + first.ghost]);
  assert.equal(window.frame.ghost, first.ghost.slice(5));
});

test("dismissed text does not come back unasked", async () => {
  const window = await openCircle();
  const { ghost } = window.frame;
  await window.press("Escape");
  await window.until("no ghost", (frame) => frame.ghost === "");
  const seen = window.frames.length - 1;
  for (const key of ghost.slice(0, 3)) {
    await window.type(key);
    await window.untilAnswered();
  }
  const ghosts = new Set(window.frames.slice(seen).map((frame) => frame.ghost));
  assert.deepEqual([...ghosts], [""]);
  await window.run("Trigger Inline Suggestion");
  await window.untilGhost();
});

test("columns are right behind characters of any width", async () => {
  const start = "    naïve, 高さ = '😀é', math";
  const behind = "  # 😀";
  const text = `import math\n\n\ndef area(radius):\n${start}${behind}\n`;
  const window = await open(text, { at: start });
  await window.type(".");
  const { ghost } = await window.untilGhost();
  assert.equal(lineOf(window.frame, "    naïve"), `${start}.${ghost}${behind}`);
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  assert.equal(await window.save(), text.replace(start, `${start}.${ghost}`));
});

test("a bracket that was closed automatically is not doubled", async () => {
  const window = await open("def size(items):\n    return len\n");
  await window.type("(");
  await window.untilGhost();
  await window.untilAnswered();
  const line = lineOf(window.frame, "    return");
  assert.equal(line.split("(").length, line.split(")").length, line);
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  assert.equal((await window.save()).split("\n")[1], line);
});

test("undo takes back what was accepted", async () => {
  const window = await openCircle();
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  await window.press("Control+z");
  await window.until("it is gone", (frame) => frame.lines.includes(LAST));
});

test("the command turns suggestions off, lets go of the model, and on again", async () => {
  const window = await openCircle();
  await window.run("Mercury: Toggle Suggestions");
  await window.until("it is off", (frame) => frame.mercury.includes("off"));
  await editor.untilSettings("it is kept", (settings) => settings["mercury.enable"] === false);
  const seen = window.frames.length - 1;
  await window.press("Backspace");
  await window.type(".");
  await window.wire.untilAnswered();
  await window.wire.status("off", "still");
  await window.until("the answer is dealt with", (frame) => frame.mercury.includes("still"));
  assert.deepEqual([...new Set(window.frames.slice(seen).map((frame) => frame.ghost))], [""]);
  await window.run("Mercury: Toggle Suggestions");
  await window.until("it is ready", (frame) => frame.mercury.includes("ready"));
  await window.press("Backspace");
  await window.type(".");
  await window.untilGhost();
});

test("a language that was turned off is left alone", async () => {
  const window = await openCircle();
  const toggle = async (languages) => {
    await window.run("Mercury: Toggle Suggestions for This Language");
    await window.wire.until(`${languages} is off`, ({ settings }) =>
      isDeepStrictEqual(settings?.disabledLanguages, languages),
    );
  };
  await toggle(["python"]);
  const seen = window.frames.length;
  await window.press("Backspace");
  await window.type(".");
  await window.untilAnswered();
  assert.deepEqual([...new Set(window.frames.slice(seen).map((frame) => frame.ghost))], [""]);
  await toggle([]);
  await window.press("Backspace");
  await window.type(".");
  await window.untilGhost();
});

test("accepting a line leaves the rest as ghost", async () => {
  const window = await openCircle();
  const line = window.frame.ghost.split("\n")[0];
  await window.press("Control+Alt+ArrowRight");
  await window.until("it is taken", (frame) => frame.place.endsWith(`Col ${LAST.length + line.length + 1}`));
  assert.ok(window.frame.lines.includes(LAST + line));
});

test("late answers of a slowed server never show", async () => {
  const window = await open(CIRCLE);
  const seen = window.frames.length;
  window.wire.hold();
  await window.type(".p");
  await window.press("Backspace");
  await window.type("p");
  await window.wire.untilAnswered();
  assert.deepEqual([...new Set(window.frames.slice(seen).map(({ ghost }) => ghost))], [""]);
  window.wire.release();
  await window.untilGhost();
  await window.untilCaughtUp();
  for (const frame of window.frames.slice(seen).filter(({ ghost }) => ghost)) {
    assert.equal(lineOf(frame, LAST), `${LAST}p${frame.ghost}`, "only the newest shows");
  }
});

test("a file of ten megabytes is served like any other", async () => {
  const rows = `x = [${"1, ".repeat(30)}]\n`.repeat(103_000);
  const window = await editor.open(rows + CIRCLE, { command: [SERVER], settings: PATIENT });
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
  await window.press("Control+End", "ArrowLeft");
  await window.until("the last line", (frame) => frame.lines.includes("    return math"));
  await window.type(".");
  const { ghost } = await window.untilGhost();
  assert.equal(lineOf(window.frame, LAST), LAST + ghost);
  await window.press("Tab");
  await window.until("it is taken", (frame) => frame.place.endsWith(`Col ${LAST.length + ghost.length + 1}`));
  assert.ok(window.frame.lines.includes(LAST + ghost));
});

test("settings of wrong types are told once, and the defaults are used", async () => {
  const window = await editor.open(CIRCLE, {
    command: [SERVER],
    settings: { ...PATIENT, "mercury.maxTokens": "many" },
  });
  await window.until("it is told", (frame) => frame.messages.some((said) => said.includes("maxTokens")));
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
});

test("the command that downloads shows how far it is, and the model is loaded anew", async () => {
  const settings = { ...PATIENT, "mercury.server.path": SERVER };
  const window = await editor.open(CIRCLE, { settings, user: LEGIBLE_TERMINAL });
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
  await window.run("Mercury: Download the Weights");
  await window.until("a bar", (frame) => /mini ━+ 98\.4\/98\.4 MB/.test(frame.terminal));
  await window.until("its end", (frame) => frame.terminal.includes("mini is ready in "));
  await window.until("the server starts", (frame) => frame.mercury.includes("loading"));
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
});

test("why a download failed can be read when it has ended", async () => {
  const settings = { "mercury.server.path": await withoutWeights() };
  const window = await editor.open(CIRCLE, { settings, user: LEGIBLE_TERMINAL });
  await window.until("they are missed", (frame) => frame.mercury.includes(MISSING));
  await window.run("Mercury: Download the Weights");
  await window.until("its end", (frame) => frame.terminal.includes("exit code: 2"));
  assert.match(unwrapped(window.frame.terminal), /the network is switched off\..*then pull again\./);
  assert.ok(window.frame.mercury.includes(MISSING), "nothing is started anew");
});

test("missing weights are told with a button, which needs the network", async () => {
  const window = await editor.open(CIRCLE, { command: [await withoutWeights()] });
  const missing = "The weights of mini are not on this machine.";
  await window.until("it is told", (frame) => frame.messages.some((said) => said.includes(missing)));
  await window.until("its item says so, too", (frame) => frame.mercury.includes(MISSING));
  await window.page.locator(".notification-list-item .monaco-button", { hasText: "Download" }).click();
  await window.until("the network is missed", (frame) =>
    frame.messages.some((said) => said.includes("network")),
  );
});

test("the server ends with its window", async () => {
  const window = await openCircle();
  await window.page.close({ runBeforeUnload: true });
  await window.wire.until("the end of the server", (wire) => wire.lives[0].ended);
});

/** What the line with the cursor looked like, ghost and all, since a frame. */
function shown(window, seen) {
  return [...new Set(window.frames.slice(seen).map((frame) => lineOf(frame, "    return")))];
}
