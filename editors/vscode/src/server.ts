// Finding the mercury-lsp program. It is always the script, never `python -m`: that would put the
// workspace on Python's import path.

import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join } from "node:path";
import * as vscode from "vscode";
import { settings } from "./settings";

const PROGRAM = "mercury-lsp";
const WINDOWS = process.platform === "win32";

const selected = new vscode.EventEmitter<void>();

/** Another Python interpreter is the active one, after one had been asked for. */
export const onDidSelectPython = selected.event;

interface PythonApi {
  environments?: {
    onDidChangeActiveEnvironmentPath(listener: () => void): vscode.Disposable;
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string };
    resolveEnvironment(path: { path: string }): Promise<
      { executable: { uri?: vscode.Uri } } | undefined
    >;
  };
}

/** The program of the setting, of the active Python environment, or of the PATH. */
export async function findServer(): Promise<string | undefined> {
  const configured = named();
  if (configured !== "") {
    const path = configured.replace(/^~(?=[/\\])/, homedir());
    return isAbsolute(path) ? first([path]) : first(onPath(path));
  }
  const python = await activePython();
  const beside = python === undefined ? [] : [join(dirname(python), PROGRAM)];
  return first([...beside, ...onPath(PROGRAM)]);
}

/** Report that the program was not found and offer remedies. Runs nothing without consent. */
export async function offerRemedy(): Promise<void> {
  const configured = named();
  const open = "Open Settings";
  const again = "Try Again";
  const install = "Install in a Terminal";
  const command = configured === "" ? await installation() : "";
  const answer = await vscode.window.showWarningMessage(
    configured === ""
      ? `The mercury-lsp program was not found. Install it (${command}), or set mercury.server.path.`
      : `The setting mercury.server.path names ${configured}, which is not a program here. Correct it, or clear it to use the mercury-lsp of the Python environment or the PATH.`,
    ...(configured === "" ? [install, open, again] : [open, again]),
  );
  if (answer === install) {
    inTerminal(command);
  } else if (answer === open) {
    await vscode.commands.executeCommand("workbench.action.openSettings", "mercury.server.path");
  } else if (answer === again) {
    await vscode.commands.executeCommand("mercury.restart");
  }
}

/** Report that the program is too old and offer an update. */
export async function offerUpdate(version: string | undefined, oldest: string): Promise<void> {
  const command = `${await installation()} --upgrade`;
  const update = "Update in a Terminal";
  const found = version === undefined ? "a mercury-lsp without inline completions" : `mercury-lsp ${version}`;
  const said = `This is ${found}, and ${oldest} or later is needed. Update it (${command}), then restart the server.`;
  if ((await vscode.window.showWarningMessage(said, update)) === update) {
    inTerminal(command);
  }
}

/** Python's variables, each emptied, which is as good as unset: PYTHONPATH may name the workspace. */
export function withoutPython(): Record<string, string> {
  const found = Object.keys(process.env).filter((name) => /^PYTHON/i.test(name));
  const dangerous = ["PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE"];
  return Object.fromEntries([...dangerous, ...found].map((name) => [name, ""]));
}

function inTerminal(command: string): void {
  const terminal = vscode.window.createTerminal("Mercury");
  terminal.show();
  terminal.sendText(command, false); // the user presses Enter
}

/** What `mercury.server.path` says. */
function named(): string {
  return settings().get<string>("server.path", "").trim();
}

async function installation(): Promise<string> {
  const python = (await activePython()) ?? (WINDOWS ? "python" : "python3");
  const quoted = python.includes(" ") ? `${WINDOWS ? "& " : ""}"${python}"` : python;
  return `${quoted} -m pip install mercury-lsp`;
}

function onPath(name: string): string[] {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .filter(isAbsolute)
    .map((folder) => join(folder, name));
}

/** The first of the paths that is a program. */
async function first(paths: string[]): Promise<string | undefined> {
  for (const path of paths) {
    for (const whole of WINDOWS && !path.endsWith(".exe") ? [`${path}.exe`] : [path]) {
      if (await isProgram(whole)) {
        return whole;
      }
    }
  }
  return undefined;
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

let watching: vscode.Disposable | undefined;

/** The interpreter that the Python extension has selected: it may be the workspace's own. */
async function activePython(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  if (extension === undefined || !vscode.workspace.isTrusted) {
    return undefined;
  }
  const environments = (await extension.activate()).environments;
  if (environments === undefined) {
    return undefined;
  }
  watching ??= environments.onDidChangeActiveEnvironmentPath(() => selected.fire());
  const active = environments.getActiveEnvironmentPath();
  return (await environments.resolveEnvironment(active))?.executable.uri?.fsPath;
}
