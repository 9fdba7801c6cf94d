// What was dismissed is not offered again unasked. VS Code tells no provider of a dismissal, so the
// key that hides a suggestion comes by here.

import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";

type Next = Parameters<NonNullable<Middleware["provideInlineCompletionItems"]>>[4];

const KEPT = 200;

export class Dismissed {
  /** By document, what was offered last: the line as it would have become, and all below. */
  private readonly offered = new WeakMap<vscode.TextDocument, string[]>();
  private readonly unwanted = new WeakMap<vscode.TextDocument, Set<string>>();

  /** Passes on what was not dismissed; who asks by key or command gets all of it. */
  async provide(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
    next: Next,
  ): Promise<vscode.InlineCompletionItem[]> {
    const found = (await next(document, position, context, token)) ?? [];
    if (token.isCancellationRequested) {
      return [];
    }
    const items = Array.isArray(found) ? found : found.items;
    if (context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke) {
      this.unwanted.delete(document);
    }
    const unwanted = this.unwanted.get(document);
    const outcome = (item: vscode.InlineCompletionItem) => becomes(document, position, item);
    const wanted = items.filter((item) => !unwanted?.has(outcome(item)));
    this.offered.set(document, wanted.map(outcome));
    return wanted;
  }

  /** Hide what is shown, and do not offer it again. */
  async dismiss(): Promise<void> {
    const document = vscode.window.activeTextEditor?.document;
    const offered = document && this.offered.get(document);
    if (offered) {
      const all = [...(this.unwanted.get(document) ?? []), ...offered];
      this.unwanted.set(document, new Set(all.slice(-KEPT)));
    }
    await vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
  }
}

/** The same for a suggestion and for what is left of it when some of it was typed. */
function becomes(
  document: vscode.TextDocument,
  position: vscode.Position,
  item: vscode.InlineCompletionItem,
): string {
  const start = item.range?.start ?? position;
  const before = document.lineAt(start.line).text.slice(0, start.character);
  const text = typeof item.insertText === "string" ? item.insertText : item.insertText.value;
  return `${start.line}:${before}${text}`;
}
