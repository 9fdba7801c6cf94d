// The editor: one code-server with the packaged extension, and one Chromium to look at it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, watch } from "node:fs";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { patiently } from "./patience.mjs";
import { Window } from "./window.mjs";
import { Wire } from "./wire.mjs";

const NEEDED = {
  code: "MERCURY_CODE_SERVER",
  browser: "MERCURY_CHROMIUM",
  vsix: "MERCURY_VSIX",
};
const QUIET = {
  "chat.disableAIFeatures": true,
  "editor.minimap.enabled": false,
  "editor.quickSuggestions": { other: "off", comments: "off", strings: "off" },
  "extensions.autoCheckUpdates": false,
  "files.autoSave": "off",
  "extensions.ignoreRecommendations": true,
  "security.workspace.trust.enabled": false,
  "telemetry.telemetryLevel": "off",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.startupEditor": "none",
};
/** Where programs are, without a mercury-lsp of the machine. */
const PATH = process.env.PATH.split(delimiter)
  .filter((folder) => !existsSync(join(folder, "mercury-lsp")))
  .join(delimiter);
const NO_XDG = { XDG_CONFIG_HOME: "", XDG_DATA_HOME: "" };
const BROWSER = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export class Editor {
  #windows = [];

  /**
   * Install the extension into a new editor and start it, with more variables in its environment;
   * `beside` is the folder of another extension.
   */
  static async start({ beside, environment = {} } = {}) {
    const paths = {};
    for (const [name, variable] of Object.entries(NEEDED)) {
      paths[name] = process.env[variable];
      if (!paths[name]) {
        throw new Error(`${variable} is not set; start these tests by: pytest -m editors`);
      }
    }
    const editor = new Editor();
    editor.environment = environment;
    editor.home = await mkdtemp(join(tmpdir(), "mercury-vscode-"));
    editor.settingsFile = join(editor.home, "data", "User", "settings.json");
    await mkdir(dirname(editor.settingsFile), { recursive: true });
    await mkdir(join(editor.home, "data", "Machine"));
    await editor.#configure();
    await writeFile(join(editor.home, "config.yaml"), "{}\n");
    if (beside !== undefined) {
      await cp(beside, join(editor.home, "extensions", basename(beside)), { recursive: true });
    }
    await editor.#code(paths.code, "--install-extension", paths.vsix);
    await editor.#serve(paths.code);
    editor.browser = await chromium.launch({ executablePath: paths.browser, args: BROWSER });
    return editor;
  }

  /**
   * A window on a new folder with one file of this text. `command` is the server, by default a
   * stand-in of a `version`; `settings` are the folder's, and may name another one; `user` are the
   * person's own, and `machine` those of where the files are. `files` are there, too, by name.
   */
  async open(text, options = {}) {
    const { name = "script.py", command, version, size } = options;
    const { settings = {}, user = {}, machine = {}, files = {} } = options;
    const folder = await mkdtemp(join(this.home, "folder-"));
    const path = join(folder, name);
    const wire = await Wire.make(await mkdtemp(join(this.home, "wire-")), command, version);
    await this.#configure(user, machine);
    await mkdir(join(folder, ".vscode"));
    for (const [file, content] of Object.entries({ ...files, [name]: text })) {
      await writeFile(join(folder, file), content);
    }
    await writeFile(
      join(folder, ".vscode", "settings.json"),
      JSON.stringify({ "mercury.server.path": wire.program, ...settings }),
    );
    const context = await this.browser.newContext({ viewport: size ?? { width: 1000, height: 600 } });
    const payload = JSON.stringify([["openFile", `vscode-remote://${this.url.host}${path}`]]);
    const query = new URLSearchParams({ folder, payload });
    const window = await Window.open(await context.newPage(), `${this.url}?${query}`, path, wire);
    this.#windows.push(window);
    return window;
  }

  /** Which VS Code this is. */
  async version() {
    return /with Code (\S+)/.exec(await this.#code(process.env[NEEDED.code], "--version"))[1];
  }

  /** Wait until the user's settings are as `seen` says. */
  async untilSettings(what, seen) {
    const changes = watch(dirname(this.settingsFile));
    let found = {};
    const read = () => {
      const text = readFileSync(this.settingsFile, "utf8");
      found = text === "" ? {} : JSON.parse(text); // an empty one is being written
      return seen(found);
    };
    await patiently(changes, "change", what, read, () => JSON.stringify(found));
    changes.close();
  }

  /** Close the windows of a test, and put the settings back. */
  async closeWindows() {
    for (const { page, wire } of this.#windows.splice(0)) {
      await page.context().close();
      wire.close();
    }
    await this.#configure();
  }

  async stop() {
    await this.closeWindows();
    await this.browser.close();
    const ended = once(this.process, "exit");
    process.kill(-this.process.pid, "SIGTERM");
    await ended;
    await rm(this.home, { recursive: true, force: true, maxRetries: 5 });
  }

  async #configure(user = {}, machine = {}) {
    await writeFile(this.settingsFile, JSON.stringify({ ...QUIET, ...user }));
    await writeFile(join(this.home, "data", "Machine", "settings.json"), JSON.stringify(machine));
  }

  #spawn(program, ...args) {
    const places = ["--config", join(this.home, "config.yaml")];
    places.push("--user-data-dir", join(this.home, "data"));
    places.push("--extensions-dir", join(this.home, "extensions"));
    return spawn(program, [...places, ...args], {
      detached: true,
      env: { ...process.env, PATH, ...NO_XDG, HOME: this.home, ...this.environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  async #code(program, ...args) {
    const child = this.#spawn(program, ...args);
    let said = "";
    child.stdout.on("data", (data) => (said += data));
    child.stderr.on("data", (data) => (said += data));
    const [code] = await once(child, "close");
    if (code !== 0) {
      throw new Error(`${program} ${args.join(" ")} failed:\n${said}`);
    }
    return said;
  }

  async #serve(program) {
    const options = ["--auth", "none", "--bind-addr", "127.0.0.1:0", "--disable-telemetry"];
    options.push("--disable-update-check", "--disable-getting-started-override");
    this.process = this.#spawn(program, ...options);
    this.process.stderr.resume();
    const said = [];
    for await (const line of createInterface({ input: this.process.stdout })) {
      said.push(line);
      const listening = /HTTP server listening on (\S+)/.exec(line);
      if (listening) {
        this.url = new URL(listening[1]);
        break;
      }
    }
    if (this.url === undefined) {
      throw new Error(`${program} did not start:\n${said.join("\n")}`);
    }
    this.process.stdout.resume();
  }
}
