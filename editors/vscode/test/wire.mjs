// What goes over the wire between the extension and its server, as `server.mjs` tells it.

import { EventEmitter, once } from "node:events";
import { chmod, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { patiently } from "./patience.mjs";

const COMPLETION = "textDocument/inlineCompletion";
const CHANGE = "textDocument/didChange";

/** The time in milliseconds, as pages tell it, too. */
export function now() {
  return performance.timeOrigin + performance.now();
}

/** Every server that the extension of one window started, and what was said, in order. */
export class Wire extends EventEmitter {
  /** One entry a message: the `life` of the server (1, 2, …), who it is `from`, when, and what. */
  said = [];
  /** When each server began and ended, in milliseconds. */
  lives = [];
  #sockets = [];

  /** Make the program that the extension is to start, in `folder`; `command` as in server.mjs. */
  static async make(folder, command = [], version = "") {
    const wire = new Wire();
    const socket = join(folder, "wire");
    wire.listener = createServer((connection) => wire.#begin(connection)).listen(socket);
    await once(wire.listener, "listening");
    wire.program = join(folder, "server");
    const words = [process.execPath, fileURLToPath(new URL("server.mjs", import.meta.url)), socket];
    const line = [...words, ...command].map((word) => `'${word}'`).join(" ");
    await writeFile(wire.program, `#!/bin/sh\nSTANDIN_VERSION='${version}' exec ${line} "$@"\n`);
    await chmod(wire.program, 0o755);
    return wire;
  }

  /** What the newest server was asked to complete and has not answered, oldest first. */
  get open() {
    return this.#requests().filter(({ message }) => !this.#answer(message.id));
  }

  /** How many completions were asked for. */
  get asked() {
    return this.#requests().length;
  }

  /** What the server was last told when it asked for its settings. */
  get settings() {
    const asked = this.said.filter(({ message }) => message.method === "workspace/configuration");
    const answers = this.said.filter(({ from, message }) => from === "editor" && !message.method);
    return answers.findLast((answer) =>
      asked.some(({ life, message }) => life === answer.life && message.id === answer.message.id),
    )?.message.result[0];
  }

  /** Wait until `seen(this)` is true. */
  async until(what, seen) {
    await patiently(this, "said", what, () => seen(this), () => this.#tail());
  }

  /** Wait for an answer to a completion that was asked for after the last of `changes` changes. */
  async untilAnswered(changes = this.changes) {
    await this.until(`an answer after change ${changes}`, () => {
      const start = changes === 0 ? -1 : this.#indexOfChange(changes);
      const last = this.#requests().at(-1);
      return (
        (changes === 0 || start >= 0) &&
        last !== undefined &&
        this.said.indexOf(last) > start &&
        this.open.length === 0
      );
    });
  }

  /** How often the document changed, as the server was told. */
  get changes() {
    return this.said.filter(({ message }) => message.method === CHANGE).length;
  }

  /** Answer every open request with `text` at its cursor. */
  answer(text) {
    for (const { message } of this.open) {
      const at = message.params.position;
      const items = [{ insertText: text, range: { start: at, end: at } }];
      this.send({ id: message.id, result: items });
    }
  }

  /** Say what the server is doing, as the real one does. */
  status(state, message = "") {
    this.send({ method: "mercury/status", params: { state, message, model: null } });
  }

  /** Send the editor a message in the name of the newest server. */
  send(message) {
    this.#sockets.at(-1).write(`${JSON.stringify({ send: message })}\n`);
  }

  /** What the newest server answers to a request that is not the editor's. */
  async ask(method, params) {
    const id = `test ${this.said.length}`;
    this.#sockets.at(-1).write(`${JSON.stringify({ ask: { id, method, params } })}\n`);
    await this.until(`an answer to ${method}`, () => this.#answer(id));
    return this.#answer(id).message.result;
  }

  /** Keep the answers of the newest server back, until `release`. */
  hold() {
    this.#sockets.at(-1).write(`${JSON.stringify({ hold: true })}\n`);
  }

  /** Send what was kept back. */
  release() {
    this.#sockets.at(-1).write(`${JSON.stringify({ hold: false })}\n`);
  }

  /** Let the newest server die. */
  crash() {
    this.#sockets.at(-1).write(`${JSON.stringify({ crash: true })}\n`);
  }

  /** Stop listening; servers that still run end. */
  close() {
    this.#sockets.forEach((socket) => socket.destroy());
    this.listener.close();
  }

  #begin(connection) {
    const life = this.#sockets.push(connection);
    this.lives.push({ began: Date.now(), ended: undefined });
    this.emit("said");
    createInterface({ input: connection }).on("line", (line) => {
      this.said.push({ life, at: now(), ...JSON.parse(line) });
      this.emit("said");
    });
    connection.on("error", () => undefined);
    connection.on("close", () => {
      this.lives[life - 1].ended = Date.now();
      this.emit("said");
    });
  }

  #requests() {
    return this.said.filter(
      ({ life, message }) => life === this.lives.length && message.method === COMPLETION,
    );
  }

  #answer(id) {
    return this.said.find(
      ({ life, from, message }) =>
        life === this.lives.length && from === "server" && !message.method && message.id === id,
    );
  }

  #indexOfChange(count) {
    let seen = 0;
    return this.said.findIndex(({ message }) => message.method === CHANGE && ++seen === count);
  }

  #tail() {
    return this.said.slice(-12).map((entry) => JSON.stringify(entry).slice(0, 200)).join("\n");
  }
}
