// One window of a real editor: keys go in, and every frame that it showed can be looked at.

import { EventEmitter } from "node:events";
import { readFile } from "node:fs/promises";
import { watchFrames } from "./frames.mjs";
import { patiently } from "./patience.mjs";

const REPORT = "mercuryFrame";

export class Window extends EventEmitter {
  /** All that was shown, in order; see frames.mjs. */
  frames = [];
  #barriers = 0;

  /** Open `url`, in which `path` is shown; `wire` tells what its server is asked. */
  static async open(page, url, path, wire) {
    const window = new Window();
    Object.assign(window, { page, path, wire });
    await page.exposeFunction(REPORT, (frame) => {
      window.frames.push(JSON.parse(frame));
      window.emit("frame");
    });
    await page.addInitScript(watchFrames, REPORT);
    await page.goto(url);
    await window.until("the file is shown", (frame) => frame.lines.length > 0 && frame.mercury);
    await page.locator(".editor-group-container .monaco-editor .view-lines").click();
    await window.until("the cursor is in it", (frame) => frame.place !== "");
    return window;
  }

  /** What is shown now. */
  get frame() {
    return this.frames.at(-1);
  }

  /** The frame that is shown if it is as `seen` says, or the first one that is. */
  async until(what, seen) {
    await patiently(this, "frame", what, () => this.frame && seen(this.frame), () => this.#story());
    return this.frame;
  }

  /** Put the cursor behind the first place where the document says `text`, or at its end. */
  async goTo(text) {
    const document = await readFile(this.path, "utf8");
    const end = text === undefined ? document.trimEnd().length : document.indexOf(text) + text.length;
    const before = document.slice(0, end).split("\n");
    await this.page.keyboard.press("Control+Home");
    for (let line = 1; line < before.length; line++) {
      await this.page.keyboard.press("ArrowDown");
    }
    await this.page.keyboard.press("Home");
    await this.page.keyboard.press("Home");
    for (const _ of before.at(-1)) {
      await this.page.keyboard.press("ArrowRight");
    }
    const place = `Ln ${before.length}, Col `;
    await this.until(`the cursor is at ${place}`, (frame) => frame.place.startsWith(place));
  }

  /** Press keys one after the other, each once the server was told of the one before. */
  async type(text) {
    for (const key of text) {
      const { changes } = this.wire;
      await this.page.keyboard.type(key);
      await this.wire.until(`${key} reaches the server`, (wire) => wire.changes > changes);
    }
  }

  async press(...keys) {
    for (const key of keys) {
      await this.page.keyboard.press(key);
    }
  }

  /** Run a command of the palette by its name. */
  async run(name) {
    await this.page.keyboard.press("F1");
    await this.until("the palette is open", (frame) => frame.picks.length > 0);
    await this.page.keyboard.type(name);
    await this.until(`${name} is found`, (frame) => frame.picks.includes(name));
    await this.page.locator(".quick-input-list .label-name", { hasText: exactly(name) }).click();
    await this.until("the palette is closed", (frame) => !frame.palette);
  }

  /** The first frame with ghost text, of now or later. */
  untilGhost(text) {
    return this.until(text ? `the ghost ${text}` : "a ghost", (frame) =>
      text === undefined ? frame.ghost : frame.ghost === text,
    );
  }

  /** The frame once the last change is answered and the editor has shown what came of it. */
  async untilAnswered() {
    await this.wire.untilAnswered();
    return this.untilCaughtUp();
  }

  /** The frame once the editor has acted upon all that the server, in a `state`, sent so far. */
  async untilCaughtUp(state = "ready") {
    const barrier = `barrier ${++this.#barriers}`;
    this.wire.status(state, barrier);
    await this.until(barrier, (frame) => frame.mercury.includes(barrier));
    await this.page.evaluate(
      () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
    );
    return this.frame;
  }

  /** Save, and what is in the file then. */
  async save() {
    await this.until("a change", (frame) => frame.unsaved);
    await this.page.keyboard.press("Control+s");
    await this.until("the file is saved", (frame) => !frame.unsaved);
    return readFile(this.path, "utf8");
  }

  #story() {
    return this.frames.slice(-3).map((frame) => JSON.stringify(frame, null, 1)).join("\n");
  }
}

function exactly(text) {
  return new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
}
