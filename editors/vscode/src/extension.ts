// Starts the language server and shows what it is doing. No logic of completion lives here.

import * as vscode from "vscode";
import {
  CloseAction,
  type CloseHandlerResult,
  ErrorAction,
  LanguageClient,
  type StaticFeature,
} from "vscode-languageclient/node";
import { findServer, offerInstall } from "./server";
import { type State, Status } from "./status";

const BACK_OFF_MS = [1_000, 4_000, 16_000];

let client: LanguageClient | undefined;
let status: Status;
let log: vscode.LogOutputChannel;
let crashes = 0;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  log = vscode.window.createOutputChannel("Mercury", { log: true });
  status = new Status();
  const commands: Record<string, () => unknown> = {
    "mercury.toggle": toggle,
    "mercury.toggleLanguage": toggleLanguage,
    "mercury.restart": restart,
    "mercury.showLog": () => log.show(),
    "mercury.download": download,
    "mercury.menu": () => status.menu(),
  };
  context.subscriptions.push(
    log,
    status,
    ...Object.entries(commands).map(([name, run]) => vscode.commands.registerCommand(name, run)),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("mercury.server.path")) {
        void restart();
      }
    }),
  );
  await start();
}

export async function deactivate(): Promise<void> {
  await stop();
}

async function start(): Promise<void> {
  const command = await findServer();
  if (command === undefined) {
    status.become("error", "mercury-lsp was not found");
    void offerInstall();
    return;
  }
  status.become("loading");
  const started: LanguageClient = new LanguageClient(
    "mercury",
    "Mercury",
    { command, args: ["--stdio"] },
    {
      documentSelector: [{ scheme: "file" }, { scheme: "untitled" }, { scheme: "vscode-remote" }],
      outputChannel: log,
      initializationOptions: vscode.workspace.getConfiguration("mercury"),
      synchronize: { configurationSection: "mercury" },
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue }),
        closed: (): CloseHandlerResult => closed(started),
      },
    },
  );
  started.registerFeature(statusCapability);
  started.onNotification("mercury/status", (params: { state: State; message: string }) => {
    if (params.state === "ready") {
      crashes = 0;
    }
    status.become(params.state, params.message);
  });
  client = started;
  try {
    await started.start();
  } catch (error) {
    status.become("error", String(error));
  }
}

const statusCapability: StaticFeature = {
  fillClientCapabilities: (capabilities) => {
    capabilities.experimental = { ...capabilities.experimental, mercuryStatus: true };
  },
  initialize: () => undefined,
  getState: () => ({ kind: "static" }),
  clear: () => undefined,
};

/** A server that crashed is started again, three times with growing pauses; then it is left off. */
function closed(which: LanguageClient): CloseHandlerResult {
  if (which !== client) {
    return { action: CloseAction.DoNotRestart, handled: true };
  }
  const wait = BACK_OFF_MS[crashes];
  crashes += 1;
  if (wait === undefined) {
    status.become("error", "the server stopped again and again");
    void vscode.window
      .showErrorMessage("The Mercury server stopped again and again and is left off.", "Show Log")
      .then((answer) => answer && log.show());
  } else {
    status.become("loading", "the server stopped; starting it again");
    setTimeout(() => which === client && void start(), wait);
  }
  return { action: CloseAction.DoNotRestart, handled: true };
}

async function stop(): Promise<void> {
  const stopping = client;
  client = undefined;
  status.become("off");
  if (stopping?.needsStop()) {
    await stopping.stop();
  }
}

async function restart(): Promise<void> {
  await stop();
  crashes = 0;
  await start();
}

async function toggle(): Promise<void> {
  const settings = vscode.workspace.getConfiguration("mercury");
  const enable = !settings.get<boolean>("enable", true);
  await settings.update("enable", enable, vscode.ConfigurationTarget.Global);
  void vscode.window.setStatusBarMessage(`Mercury suggestions are ${enable ? "on" : "off"}`, 3_000);
}

async function toggleLanguage(): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  if (language === undefined) {
    return;
  }
  const settings = vscode.workspace.getConfiguration("mercury");
  const off = settings.get<string[]>("disabledLanguages", []);
  const now = off.includes(language) ? off.filter((l) => l !== language) : [...off, language];
  await settings.update("disabledLanguages", now, vscode.ConfigurationTarget.Global);
  const state = now.includes(language) ? "off" : "on";
  void vscode.window.setStatusBarMessage(`Mercury suggestions for ${language} are ${state}`, 3_000);
}

async function download(): Promise<void> {
  const command = await findServer();
  if (command === undefined) {
    await offerInstall();
    return;
  }
  const model = vscode.workspace.getConfiguration("mercury").get<string>("model", "mini");
  const terminal = vscode.window.createTerminal("Mercury");
  terminal.show();
  terminal.sendText(`"${command}" models pull ${model}`);
}
