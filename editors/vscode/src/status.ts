// The status bar item: what the server is doing, and a menu.

import * as vscode from "vscode";

export type State = "off" | "loading" | "ready" | "missing" | "error";

const LOOKS: Record<State, { icon: string; says: string }> = {
  off: { icon: "circle-slash", says: "off" },
  loading: { icon: "loading~spin", says: "loading" },
  ready: { icon: "sparkle", says: "ready" },
  missing: { icon: "cloud-download", says: "the weights are not on this machine" },
  error: { icon: "error", says: "not working" },
};

export class Status implements vscode.Disposable {
  private readonly item: vscode.StatusBarItem;
  private state: State = "off";

  constructor() {
    this.item = vscode.window.createStatusBarItem("mercury", vscode.StatusBarAlignment.Right, 90);
    this.item.name = "Mercury";
    this.item.command = "mercury.menu";
    this.become("off");
    this.item.show();
  }

  become(state: State, message = ""): void {
    const look = LOOKS[state] ?? LOOKS.error;
    this.state = state;
    this.item.text = `$(${look.icon}) Mercury`;
    this.item.tooltip = `Mercury: ${message === "" ? look.says : `${look.says}\n${message}`}`;
    this.item.backgroundColor =
      state === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  }

  async menu(): Promise<void> {
    const picked = await vscode.window.showQuickPick(
      [
        { label: "$(power) Toggle suggestions", command: "mercury.toggle" },
        { label: "$(symbol-file) Toggle for this language", command: "mercury.toggleLanguage" },
        { label: "$(cloud-download) Download the weights", command: "mercury.download" },
        { label: "$(debug-restart) Restart the server", command: "mercury.restart" },
        { label: "$(output) Show the log", command: "mercury.showLog" },
      ],
      { title: `Mercury: ${LOOKS[this.state].says}` },
    );
    if (picked !== undefined) {
      await vscode.commands.executeCommand(picked.command);
    }
  }

  dispose(): void {
    this.item.dispose();
  }
}
