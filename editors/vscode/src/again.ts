// Who typed before the model was ready is served when it is.

import * as vscode from "vscode";

export class Again implements vscode.Disposable {
  private typed: { document: vscode.TextDocument; version: number } | undefined;
  private ready = false;
  private readonly listener: vscode.Disposable;

  constructor() {
    this.listener = vscode.workspace.onDidChangeTextDocument(({ document }) => {
      if (!this.ready && document === vscode.window.activeTextEditor?.document) {
        this.typed = { document, version: document.version };
      }
    });
  }

  /** Whether the model can be asked; when it can for the first time, ask for what was missed. */
  become(ready: boolean): void {
    const arrived = ready && !this.ready;
    const typed = this.typed;
    this.ready = ready;
    this.typed = undefined;
    const editor = vscode.window.activeTextEditor;
    if (arrived && typed?.version === typed?.document.version && typed?.document === editor?.document) {
      void vscode.commands.executeCommand("editor.action.inlineSuggest.trigger", { explicit: false });
    }
  }

  dispose(): void {
    this.listener.dispose();
  }
}
