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

const THINKING = { icon: "loading~spin", says: "thinking" };

/** A suggestion that takes no longer is not worth a movement. */
const SOON_MS = 150;

export class Status implements vscode.Disposable {
  private readonly item: vscode.StatusBarItem;
  private state: State = "off";
  private message = "";
  private thinking = 0;

  constructor() {
    this.item = vscode.window.createStatusBarItem("mercury", vscode.StatusBarAlignment.Right, 90);
    this.item.name = "Mercury";
    this.item.command = "mercury.menu";
    this.become("off");
    this.item.show();
  }

  become(state: State, message = ""): void {
    this.state = state;
    this.message = message;
    this.draw();
  }

  /** Show that a suggestion is being made, if that takes a while. */
  async during<T>(work: Promise<T>): Promise<T> {
    let counted = 0;
    const count = (by: number) => {
      counted += by;
      this.thinking += by;
      this.draw();
    };
    const timer = setTimeout(() => count(1), SOON_MS);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
      if (counted > 0) {
        count(-counted);
      }
    }
  }

  async menu(): Promise<void> {
    const picked = await vscode.window.showQuickPick(
      [
        { label: "$(power) Toggle suggestions", command: "mercury.toggle" },
        { label: "$(symbol-file) Toggle for this language", command: "mercury.toggleLanguage" },
        { label: "$(cloud-download) Download the weights", command: "mercury.download" },
        { label: "$(debug-restart) Restart the server", command: "mercury.restart" },
        { label: "$(output) Show the log", command: "mercury.showLog" },
        { label: "$(graph) Show statistics", command: "mercury.statistics" },
      ],
      { title: `Mercury: ${this.look.says}` },
    );
    if (picked !== undefined) {
      await vscode.commands.executeCommand(picked.command);
    }
  }

  dispose(): void {
    this.item.dispose();
  }

  private get look(): { icon: string; says: string } {
    const thinks = this.state === "ready" && this.thinking > 0;
    return thinks ? THINKING : (LOOKS[this.state] ?? LOOKS.error);
  }

  private draw(): void {
    const { icon, says } = this.look;
    this.item.text = `$(${icon}) Mercury`;
    this.item.tooltip = `Mercury: ${this.message === "" ? says : `${says}\n${this.message}`}`;
    this.item.backgroundColor =
      this.state === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  }
}
