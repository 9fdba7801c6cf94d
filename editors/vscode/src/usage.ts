// What became of suggestions, for whoever asks: counted in memory for this window, sent nowhere.

import * as vscode from "vscode";

export const ACCEPTED = "mercury.accepted";

/** Where the first suggestion of an answer begins, and all of its text. */
interface Offer {
  document: vscode.TextDocument;
  start: vscode.Position;
  text: string;
}

export class Usage implements vscode.Disposable {
  private offered = 0;
  private whole = 0;
  private part = 0;
  private last: Offer | undefined;
  private readonly listener = vscode.workspace.onDidChangeTextDocument((event) => this.changed(event));

  /** Count what is offered, and have the editor tell when it is accepted. */
  watch(
    document: vscode.TextDocument,
    position: vscode.Position,
    items: vscode.InlineCompletionItem[],
  ): vscode.InlineCompletionItem[] {
    for (const item of items) {
      item.command = { command: ACCEPTED, title: "" };
    }
    if (items.length > 0) {
      this.offer(document, position, items[0]);
    }
    return items;
  }

  /** A suggestion was accepted as a whole: its command runs. */
  accepted(): void {
    this.whole += 1;
  }

  /** For people. */
  get summary(): string {
    return (
      `Since this window opened: ${this.offered} suggestions,` +
      ` ${this.whole} accepted whole, ${this.part} in part.`
    );
  }

  dispose(): void {
    this.listener.dispose();
  }

  private offer(
    document: vscode.TextDocument,
    position: vscode.Position,
    item: vscode.InlineCompletionItem,
  ): void {
    const start = item.range?.start ?? position;
    const text = typeof item.insertText === "string" ? item.insertText : item.insertText.value;
    const before = document.lineAt(start.line).text.slice(0, start.character);
    if (this.last?.document !== document || !continues(this.last, start.line, before + text)) {
      this.offered += 1;
    }
    const line = new vscode.Position(start.line, 0);
    this.last = { document, start: line, text: before + text };
  }

  /** VS Code does not say that a word or a line was taken: more than a key's worth came at once. */
  private changed({ document, contentChanges }: vscode.TextDocumentChangeEvent): void {
    const [change] = contentChanges;
    if (this.last?.document !== document || contentChanges.length !== 1 || change.text.length < 2) {
      return;
    }
    const end = document.positionAt(change.rangeOffset + change.text.length);
    const now = document.getText(new vscode.Range(this.last.start, end));
    if (now !== this.last.text && this.last.text.startsWith(now)) {
      this.part += 1;
    }
  }
}

/** Whether an offer is what is left of the one before. */
function continues(last: Offer, line: number, text: string): boolean {
  return last.start.line === line && last.text === text;
}
