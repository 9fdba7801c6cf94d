// The program that the extension under test starts as its server: `server.mjs SOCKET [COMMAND…]`.
//
// It tells the test at SOCKET of every message, and sends what the test wants sent. With a command
// it stands between the editor and that server; without one it is a stand-in that answers
// everything at once but completion requests, which only the test answers; it is of the version in
// STANDIN_VERSION, if any.

import { spawn } from "node:child_process";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { StreamMessageReader, StreamMessageWriter } from "vscode-jsonrpc/node";

const [socket, ...command] = process.argv.slice(2).filter((argument) => argument !== "--stdio");
/** How the ids of the test's own requests begin. */
const OWN = "test ";
const CAPABILITIES = {
  positionEncoding: "utf-16",
  textDocumentSync: { openClose: true, change: 2 },
  inlineCompletionProvider: {},
};

const test = connect(socket);
const editor = {
  reader: new StreamMessageReader(process.stdin),
  writer: new StreamMessageWriter(process.stdout),
};

function tell(from, message) {
  test.write(`${JSON.stringify({ from, message })}\n`);
}

/** Answers that are kept back while the server is to be slow. */
let held;

function toEditor(message) {
  tell("server", message);
  if (held !== undefined && message.method === undefined) {
    held.push(message);
  } else if (!String(message.id).startsWith(OWN)) {
    void editor.writer.write(message);
  }
}

function standIn(message) {
  const answer = (result) => toEditor({ jsonrpc: "2.0", id: message.id, result });
  if (message.method === "exit") {
    process.exit(0);
  } else if (message.method === "initialize") {
    const version = process.env.STANDIN_VERSION;
    const serverInfo = version ? { name: "mercury-lsp", version } : undefined;
    answer({ capabilities: CAPABILITIES, serverInfo });
  } else if (message.method !== "textDocument/inlineCompletion" && message.id !== undefined) {
    if (message.method === "mercury/statistics") {
      answer({ records: [{ total_ms: 40 }] });
    } else if (message.method !== undefined) {
      answer(null);
    }
  }
}

function standBetween() {
  const child = spawn(command[0], [...command.slice(1), "--stdio"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const writer = new StreamMessageWriter(child.stdin);
  new StreamMessageReader(child.stdout).listen(toEditor);
  child.on("exit", (code) => process.exit(code ?? 1));
  process.stdin.on("end", () => child.stdin.end());
  return (message) => void writer.write(message);
}

const handle = command.length > 0 ? standBetween() : standIn;
editor.reader.listen((message) => {
  tell("editor", message);
  handle(message);
});
createInterface({ input: test }).on("line", (line) => {
  const { send, ask, crash, hold } = JSON.parse(line);
  if (crash) {
    process.exit(1);
  } else if (hold !== undefined) {
    const late = held ?? [];
    held = hold ? late : undefined;
    (hold ? [] : late).forEach((message) => void editor.writer.write(message));
  } else if (ask) {
    handle({ jsonrpc: "2.0", ...ask });
  } else {
    toEditor({ jsonrpc: "2.0", ...send });
  }
});
test.on("close", () => process.exit(1));
