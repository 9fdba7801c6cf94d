// Starts the language server and shows what it is doing. No logic of completion lives here.

import { homedir } from "node:os";
import * as vscode from "vscode";
import { Dismissed } from "./dismissed";
import { Readiness } from "./readiness";
import { findServer, offerRemedy, onDidSelectPython, withoutPython } from "./server";
import { change, settings } from "./settings";
import { Status } from "./status";
import { Supervisor } from "./supervisor";
import { ACCEPTED, Usage } from "./usage";

/** The kind of task that fetches weights. */
const DOWNLOAD = "mercury-download";

let supervisor: Supervisor | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel("Mercury", { log: true });
  const status = new Status();
  const readiness = new Readiness();
  const dismissed = new Dismissed();
  const usage = new Usage();
  const server = new Supervisor(
    context.globalStorageUri.fsPath,
    log,
    (state, message) => {
      status.become(state, message);
      readiness.become(state);
    },
    async (document, position, context, token, next) => {
      await readiness.loaded(token);
      const items = dismissed.provide(document, position, context, token, next);
      return usage.watch(document, position, await status.during(items));
    },
  );
  supervisor = server;
  const commands: Record<string, () => unknown> = {
    "mercury.toggle": toggle,
    "mercury.toggleLanguage": toggleLanguage,
    "mercury.restart": () => server.restart(),
    "mercury.showLog": () => log.show(),
    "mercury.download": () => download(),
    "mercury.menu": () => status.menu(),
    "mercury.dismiss": () => dismissed.dismiss(),
    "mercury.statistics": () => showStatistics(usage, server),
    [ACCEPTED]: () => usage.accepted(),
  };
  context.subscriptions.push(
    log,
    status,
    readiness,
    usage,
    ...Object.entries(commands).map(([name, run]) => vscode.commands.registerCommand(name, run)),
    vscode.tasks.onDidEndTaskProcess(({ execution, exitCode }) => {
      if (execution.task.definition.type === DOWNLOAD && exitCode === 0) {
        void server.restart();
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => server.restart()),
    onDidSelectPython(() => server.follow()),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("mercury.server.path")) {
        void server.restart();
      }
    }),
  );
  await server.start();
}

export async function deactivate(): Promise<void> {
  await supervisor?.stop();
}

async function toggle(): Promise<void> {
  const enable = !settings().get<boolean>("enable", true);
  await change("enable", enable);
  void vscode.window.setStatusBarMessage(`Mercury suggestions are ${enable ? "on" : "off"}`, 3_000);
}

async function toggleLanguage(): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  if (language === undefined) {
    return;
  }
  const off = settings().get<string[]>("disabledLanguages", []);
  const now = off.includes(language) ? off.filter((l) => l !== language) : [...off, language];
  await change("disabledLanguages", now);
  const state = now.includes(language) ? "off" : "on";
  void vscode.window.setStatusBarMessage(`Mercury suggestions for ${language} are ${state}`, 3_000);
}

async function showStatistics(usage: Usage, server: Supervisor): Promise<void> {
  const answered = await server.answered();
  void vscode.window.showInformationMessage(`${usage.summary} ${answered}`.trim());
}

/** Fetch the weights, where the user sees it. No shell: the name may come from a workspace. */
async function download(): Promise<void> {
  const command = await findServer();
  if (command === undefined) {
    await offerRemedy();
    return;
  }
  const model = settings().get<string>("model", "mini");
  // A task, since its terminal stays when it ends: what went wrong can be read.
  const task = new vscode.Task(
    { type: DOWNLOAD },
    vscode.TaskScope.Workspace,
    `download ${model}`,
    "Mercury",
    new vscode.ProcessExecution(command, ["models", "pull", "--", model], {
      cwd: homedir(),
      env: withoutPython(),
    }),
  );
  task.presentationOptions = { clear: true, panel: vscode.TaskPanelKind.Dedicated };
  await vscode.tasks.executeTask(task);
}
