// Who typed before the model was ready is served when it is.

import * as vscode from "vscode";
import type { State } from "./status";

export class Readiness implements vscode.Disposable {
  private state: State = "off";
  private typed: { document: vscode.TextDocument; version: number } | undefined;
  private readonly changed = new vscode.EventEmitter<void>();
  private readonly listener: vscode.Disposable;

  constructor() {
    this.listener = vscode.workspace.onDidChangeTextDocument(({ document }) => {
      if (this.state === "loading" && document === vscode.window.activeTextEditor?.document) {
        this.typed = { document, version: document.version };
      }
    });
  }

  become(state: State): void {
    const missed = this.state === "loading" && state === "ready" ? this.typed : undefined;
    if (state !== "loading") {
      this.typed = undefined;
    }
    this.state = state;
    this.changed.fire();
    const now = vscode.window.activeTextEditor?.document;
    if (missed !== undefined && missed.document === now && missed.version === now.version) {
      // As long as the server itself was starting, the editor had nobody to ask.
      void vscode.commands.executeCommand("editor.action.inlineSuggest.trigger", { explicit: false });
    }
  }

  /** Wait while the model is loading, as long as somebody wants to know. */
  async loaded(token: vscode.CancellationToken): Promise<void> {
    while (this.state === "loading" && !token.isCancellationRequested) {
      await new Promise<void>((resolve) => {
        const heard: vscode.Disposable[] = [];
        const done = () => {
          vscode.Disposable.from(...heard).dispose();
          resolve();
        };
        heard.push(this.changed.event(done), token.onCancellationRequested(done));
      });
    }
  }

  dispose(): void {
    this.listener.dispose();
    this.changed.dispose();
  }
}
