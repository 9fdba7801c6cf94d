// Which program the extension starts in a folder that nobody trusts yet, and in one that is trusted.
//
// The window is a remote one: its editor is in the browser, and the extension is where the files are.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, symlink, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Editor } from "./editor.mjs";
import { Wire } from "./wire.mjs";

const SCRIPT = "total =\n";
const PYTHON = fileURLToPath(new URL("python", import.meta.url));
const UNTRUSTED = {
  "security.workspace.trust.enabled": true,
  "security.workspace.trust.startupPrompt": "never",
};

let editor;
/** What `export PYTHONPATH=$PYTHONPATH:/x` gives, and more names of the folder that one stands in. */
const PYTHONPATH = ["", "/x", "."].join(delimiter);

before(async () => {
  editor = await Editor.start({ beside: PYTHON, environment: { PYTHONPATH } });
});
afterEach(() => editor.closeWindows());
after(() => editor?.stop());

/** Another server, which may be started. */
async function server() {
  return Wire.make(await mkdtemp(join(editor.home, "wire-")));
}

/** A Python interpreter that has this server beside it. */
async function interpreter(wire) {
  await symlink(wire.program, join(dirname(wire.program), "mercury-lsp"));
  return join(dirname(wire.program), "python");
}

/** Wait until a server was started, and let it say that it is ready. */
async function begin(window, wire) {
  await wire.until("its start", ({ said }) =>
    said.some(({ life, message }) => life === wire.lives.length && message.method === "initialized"),
  );
  wire.status("ready", wire.program);
  await window.until("it is ready", (frame) => frame.mercury.includes(`ready\n${wire.program}`));
}

/** Trust the folder, as a person does. */
async function trust(window) {
  await window.page.locator(".statusbar-item", { hasText: "Restricted Mode" }).click();
  await window.page.locator(".workspace-trust-editor .monaco-button", { hasText: /^Trust$/ }).click();
}

test("the server that a folder names is started once the folder is trusted, not before", async () => {
  const own = await server();
  const machine = { "mercury.server.path": own.program };
  const window = await editor.open(SCRIPT, { machine, user: UNTRUSTED });
  await begin(window, own);
  assert.equal(window.wire.lives.length, 0);
  await trust(window);
  await begin(window, window.wire);
  await own.until("the end of the other one", ({ lives }) => lives.every(({ ended }) => ended));
  await window.wire.until("one is left", ({ lives }) => lives.filter(({ ended }) => !ended).length === 1);
  own.close();
});

test("files of a folder do not run in the server, which is written in Python", async () => {
  const own = await server();
  const program = join(dirname(own.program), "in-python");
  await writeFile(
    program,
    `#!/usr/bin/env python3\nimport os, queue, sys\nos.execv("${own.program}", sys.argv)\n`,
  );
  await chmod(program, 0o755);
  const ran = join(dirname(own.program), "ran");
  const files = ["sitecustomize.py", "usercustomize.py", "queue.py"];
  const machine = { "mercury.server.path": program };
  const window = await editor.open(SCRIPT, {
    machine,
    user: UNTRUSTED,
    files: Object.fromEntries(files.map((name) => [name, `open("${ran}", "a").write("${name}\\n")\n`])),
  });
  await begin(window, own);
  own.close(); // first: what listens still would keep a failed test from ending
  assert.ok(!existsSync(ran), "a file of the folder ran");
});

test("the Python environment of a folder is looked into once the folder is trusted", async () => {
  const beside = await server();
  const python = await interpreter(beside);
  const settings = { "mercury.server.path": "", "test.python": python };
  const window = await editor.open(SCRIPT, { settings, user: UNTRUSTED });
  await window.until("a message", (frame) => frame.messages.length > 0);
  assert.match(window.frame.messages[0], /\(python3 -m pip install mercury-lsp\)/);
  assert.equal(beside.lives.length, 0);
  await trust(window);
  await begin(window, beside);
  beside.close();
});

test("when another interpreter is selected, the server beside it takes over", async () => {
  const [one, other] = [await server(), await server()];
  const settings = { "mercury.server.path": "", "test.python": await interpreter(one) };
  const window = await editor.open(SCRIPT, { settings });
  await begin(window, one);
  const selected = { ...settings, "test.python": await interpreter(other) };
  await writeFile(join(dirname(window.path), ".vscode", "settings.json"), JSON.stringify(selected));
  await begin(window, other);
  await one.until("its end", ({ lives }) => lives.length === 1 && lives[0].ended);
  one.close();
  other.close();
});

test("in a folder that is trusted, the server it names goes before the machine's", async () => {
  const own = await server();
  const machine = { "mercury.server.path": own.program };
  const window = await editor.open(SCRIPT, { machine });
  await begin(window, window.wire);
  assert.equal(own.lives.length, 0);
  own.close();
});
