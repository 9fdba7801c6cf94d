// Finding the mercury-lsp program. It is always the script, never `python -m`: that would put the
// workspace on Python's import path.

import { existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import * as vscode from "vscode";

const NAMES = process.platform === "win32" ? ["mercury-lsp.exe"] : ["mercury-lsp"];

interface PythonApi {
  environments?: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string };
    resolveEnvironment(path: { path: string }): Promise<
      { executable: { uri?: vscode.Uri } } | undefined
    >;
  };
}

/** The program of the setting, of the active Python environment, or of the PATH. */
export async function findServer(): Promise<string | undefined> {
  const configured = vscode.workspace.getConfiguration("mercury").get<string>("server.path", "");
  if (configured !== "") {
    return configured;
  }
  const python = vscode.workspace.isTrusted ? await activePython() : undefined;
  const folders = [
    ...(python === undefined ? [] : [dirname(python)]),
    ...(process.env.PATH ?? "").split(delimiter),
  ];
  return folders
    .flatMap((folder) => NAMES.map((name) => join(folder, name)))
    .find((path) => existsSync(path));
}

/** The interpreter that the Python extension has selected, if that extension is there. */
export async function activePython(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  if (extension === undefined) {
    return undefined;
  }
  const environments = (await extension.activate()).environments;
  if (environments === undefined) {
    return undefined;
  }
  const active = environments.getActiveEnvironmentPath();
  return (await environments.resolveEnvironment(active))?.executable.uri?.fsPath;
}

/** Offer to install the server, showing what would run; nothing runs unasked. */
export async function offerInstall(): Promise<void> {
  const python = (await activePython()) ?? "python3";
  const command = `"${python}" -m pip install mercury-lsp && mercury-lsp models pull mini`;
  const install = "Run in a Terminal";
  const settings = "Open Settings";
  const answer = await vscode.window.showWarningMessage(
    "The mercury-lsp program was not found. To install it, this would run:",
    { modal: false, detail: command },
    install,
    settings,
  );
  if (answer === install) {
    const terminal = vscode.window.createTerminal("Mercury");
    terminal.show();
    terminal.sendText(command, false); // the user presses Enter
  } else if (answer === settings) {
    await vscode.commands.executeCommand("workbench.action.openSettings", "mercury.server.path");
  }
}
