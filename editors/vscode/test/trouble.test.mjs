// The extension when something goes wrong: late answers, crashes, missing parts.
//
// The server is a stand-in that says what the test wants, unless there is none.

import assert from "node:assert/strict";
import { chmod, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { Editor } from "./editor.mjs";

const SCRIPT = "total =\n";

let editor;
before(async () => (editor = await Editor.start()));
afterEach(() => editor.closeWindows());
after(() => editor?.stop());

/** A window with a stand-in that says it is ready. */
async function open(text = SCRIPT, options) {
  const window = await editor.open(text, options);
  await begin(window, 1);
  await window.goTo();
  return window;
}

async function initialized(window, life) {
  await window.wire.until(`server ${life}`, (wire) =>
    wire.said.some((entry) => entry.life === life && entry.message.method === "initialized"),
  );
}

/** Wait for the server's `life`, and let it say that it is ready. */
async function begin(window, life) {
  await initialized(window, life);
  window.wire.status("ready", `life ${life}`);
  await window.until("it is ready", (frame) => frame.mercury.includes(`ready\nlife ${life}`));
}

/** Type, and wait until there is a new completion request. */
async function ask(window, text) {
  const { asked } = window.wire;
  await window.type(text);
  await window.wire.until("a request", (wire) => wire.asked > asked);
}

test("late answers never show", async () => {
  const window = await open();
  await ask(window, " ");
  await ask(window, "1");
  await ask(window, "+");
  assert.equal(window.wire.open.length, 3);
  window.wire.answer("late");
  await window.untilGhost("late");
  const frame = await window.untilCaughtUp();
  assert.equal(frame.lines[0], "total = 1+late", "the newest is not late");
  const seen = window.frames.filter(({ ghost }) => ghost !== "").map(({ lines }) => lines[0]);
  assert.deepEqual([...new Set(seen)], ["total = 1+late"]);
});

test("an answer that comes when the cursor is elsewhere shows nowhere", async () => {
  const window = await open("count = 1\ntotal =\n");
  await ask(window, " ");
  await window.press("ArrowUp");
  await window.until("the cursor is up", (frame) => frame.place.startsWith("Ln 1,"));
  window.wire.answer("late");
  await window.untilCaughtUp();
  assert.deepEqual([...new Set(window.frames.map(({ ghost }) => ghost))], [""]);
});

test("a suggestion takes over the bracket that was closed automatically", async () => {
  const window = await open("total = sum\n");
  await ask(window, "(");
  const { line, character } = window.wire.open[0].message.params.position;
  const range = { start: { line, character }, end: { line, character: character + 1 } };
  window.wire.send({ id: window.wire.open[0].message.id, result: [{ insertText: "[1, 2])", range }] });
  await window.untilGhost();
  assert.equal(window.frame.lines[0], "total = sum([1, 2])");
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  assert.equal(await window.save(), "total = sum([1, 2])\n");
});

test("several lines are shown and accepted", async () => {
  const window = await open();
  await ask(window, " ");
  window.wire.answer("sum(\n    values\n)");
  await window.untilGhost("sum(\n    values\n)");
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  assert.equal(await window.save(), "total = sum(\n    values\n)\n");
});

test("a key without a suggestion does what it always did", async () => {
  const window = await open();
  await window.press("Home", "Tab");
  await window.until("it is indented", (frame) => frame.lines[0] === "    total =");
});

test("who typed while the model was loading is served when it is ready", async () => {
  const window = await editor.open(SCRIPT);
  await initialized(window, 1);
  window.wire.status("loading", "mini");
  await window.goTo();
  await window.type(" ");
  await window.run("Trigger Inline Suggestion");
  await window.untilCaughtUp("loading");
  assert.equal(window.wire.asked, 0, "what cannot be answered is not asked yet");
  window.wire.status("ready");
  await window.wire.until("a request", (wire) => wire.open.length > 0);
  window.wire.answer("sum(values)");
  await window.untilGhost("sum(values)");
});

test("the status bar says what the server says", async () => {
  const window = await open();
  for (const [state, says] of [
    ["loading", "loading"],
    ["missing", "the weights are not on this machine"],
    ["error", "not working"],
    ["off", "off"],
    ["ready", "ready"],
  ]) {
    window.wire.status(state, `said ${state}`);
    const shown = `Mercury: ${says}\nsaid ${state}`;
    await window.until(shown, (frame) => frame.mercury.includes(shown));
  }
});

test("a server that crashes is restarted with growing pauses, and then not any more", async () => {
  const window = await open();
  for (let life = 1; life <= 4; life++) {
    await begin(window, life);
    window.wire.crash();
    await window.wire.until(`the end of ${life}`, (wire) => wire.lives[life - 1].ended);
  }
  const said = "The Mercury server stopped 4 times and was not restarted.";
  await window.until(said, (frame) => frame.messages.some((message) => message.includes(said)));
  await window.until("the status", (frame) => frame.mercury.includes(`not working\n${said}`));
  const { lives } = window.wire;
  const waits = lives.slice(1).map(({ began }, index) => began - lives[index].ended);
  [1_000, 4_000, 16_000].forEach((least, index) => assert.ok(waits[index] > 0.9 * least, `${waits}`));
  assert.equal(window.frame.messages.length, 1, "and nothing else was complained about");
  await window.run("Mercury: Restart the Server");
  await begin(window, 5);
  await ask(window, " ");
  window.wire.answer("sum(values)");
  await window.untilGhost("sum(values)");
});

test("of two restarts at once one server is left", async () => {
  const binding = [{ key: "ctrl+alt+m", command: "mercury.restart" }];
  await writeFile(join(dirname(editor.settingsFile), "keybindings.json"), JSON.stringify(binding));
  const window = await open();
  window.wire.hold(); // it waits in vain for an answer to `shutdown`
  await window.press("Control+Alt+m", "Control+Alt+m");
  await begin(window, 2);
  await window.wire.until("the end of the first", (wire) => wire.lives[0].ended);
  await window.untilCaughtUp();
  assert.equal(window.wire.lives.length, 2);
});

test("a server that was never there is told with the remedy", async () => {
  const program = join(editor.home, "away", "mercury-lsp");
  const window = await editor.open(SCRIPT, { settings: { "mercury.server.path": program } });
  await window.until("a message", (frame) => frame.messages.length > 0);
  assert.match(window.frame.messages[0], /mercury\.server\.path names .*, which is not a program/);
  assert.match(window.frame.messages[0], /empty it to use the mercury-lsp of the Python env/);
  assert.ok(window.frame.buttons.includes("Open Settings"));
  assert.match(window.frame.mercury, /not working\nmercury-lsp was not found/);
});

test("without a server, the way to install one is said", async () => {
  const window = await editor.open(SCRIPT, { settings: { "mercury.server.path": "" } });
  await window.until("a message", (frame) => frame.messages.length > 0);
  assert.match(window.frame.messages[0], /python3 -m pip install mercury-lsp/);
  assert.ok(window.frame.buttons.includes("Install in a Terminal"));
});

test("a program that is no server is given up with one message", async () => {
  const program = join(editor.home, "broken");
  await writeFile(program, "#!/nowhere/python\n");
  await chmod(program, 0o755);
  const window = await editor.open(SCRIPT, { settings: { "mercury.server.path": program } });
  await window.until("it is given up", (frame) => frame.messages.length > 0);
  assert.deepEqual(window.frame.messages.length, 1);
  assert.match(window.frame.messages[0], /stopped 4 times and was not restarted/);
});

test("a server that is too old is reported with a remedy and stopped", async () => {
  const window = await editor.open(SCRIPT, { version: "0.0.9" });
  await window.until("a message", (frame) => frame.messages.length > 0);
  assert.match(window.frame.messages[0], /This is mercury-lsp 0\.0\.9, and 0\.1\.0 or later is needed/);
  assert.match(window.frame.messages[0], /-m pip install mercury-lsp --upgrade/);
  assert.ok(window.frame.buttons.includes("Update in a Terminal"));
  await window.until("the status", (frame) => /not working\nmercury-lsp is too old/.test(frame.mercury));
  await window.wire.until("the end of the server", (wire) => wire.lives[0].ended);
  assert.equal(window.wire.lives.length, 1);
});

test("an answer shows nowhere once another file is looked at", async () => {
  const window = await open();
  await ask(window, " ");
  await window.press("Control+n");
  await window.until("an empty file", (frame) => frame.lines.join("") === "");
  window.wire.answer("late");
  await window.untilCaughtUp();
  assert.deepEqual([...new Set(window.frames.map(({ ghost }) => ghost))], [""]);
});

test("two windows have a server each", async () => {
  const one = await open();
  const other = await open();
  await ask(one, " ");
  await ask(other, " ");
  one.wire.answer("sum(values)");
  other.wire.answer("len(values)");
  await one.untilGhost("sum(values)");
  await other.untilGhost("len(values)");
  one.wire.crash();
  await one.wire.until("the end", (wire) => wire.lives[0].ended);
  await ask(other, "0");
  other.wire.answer(" * len(values)");
  await other.untilGhost(" * len(values)");
});

test("whoever waits for a suggestion sees that one is being made", async () => {
  const window = await open();
  await ask(window, " ");
  await window.until("it thinks", (frame) => frame.mercury.includes("thinking"));
  window.wire.answer("sum(values)");
  await window.until("it is ready", (frame) => frame.mercury.includes("ready"));
  await window.untilGhost("sum(values)");
});

test("statistics tell what became of suggestions", async () => {
  const window = await open();
  await ask(window, " ");
  window.wire.answer("sum(values)");
  await window.untilGhost("sum(values)");
  await window.press("Control+ArrowRight");
  await window.untilGhost("(values)");
  await window.wire.until("a request", (wire) => wire.open.length > 0);
  window.wire.answer("(values)");
  await window.untilCaughtUp();
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  await window.run("Mercury: Show Statistics");
  const said = "1 suggestions, 1 accepted whole, 1 in part.";
  await window.until(said, (frame) => frame.messages.some((message) => message.includes(said)));
});

test("the menu has the commands, and the log is shown", async () => {
  const window = await open();
  await window.page.locator("#mercury-lsp\\.mercury-lsp\\.mercury a").click();
  await window.until("the menu", (frame) => frame.picks.some((pick) => pick.includes("Restart")));
  assert.equal(window.frame.picks.length, 6);
  await window.press("Escape");
  await window.until("it is closed", (frame) => !frame.palette);
  await window.run("Mercury: Show the Log");
  await window.page.locator(".part.panel", { hasText: "Output" }).waitFor();
});

test("another server is started when the setting names one", async () => {
  const window = await open();
  const { program } = window.wire;
  const settings = join(dirname(window.path), ".vscode", "settings.json");
  await writeFile(settings, JSON.stringify({ "mercury.server.path": `${program}-away` }));
  await window.until("a message", (frame) => frame.messages.length > 0);
  assert.match(window.frame.messages[0], /which is not a program here/);
  await window.wire.until("the end of the server", (wire) => wire.lives[0].ended);
});
