// The settings: those that the server is told, and changing one where it is set.

import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";

const SECTION = "mercury";

/** Those of this extension alone, which the server does not know. */
const OWN = "server";

export function settings(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration(SECTION);
}

/** What the server is to know. */
export function forServer(all: object = settings()): object {
  return Object.fromEntries(
    Object.entries(all).filter(([name, value]) => name !== OWN && typeof value !== "function"),
  );
}

/** Answers the server that asks for its settings. */
export const configuration: NonNullable<Middleware["workspace"]>["configuration"] = async (
  params,
  token,
  next,
) => {
  const found = await next(params, token);
  return Array.isArray(found)
    ? found.map((value, index) =>
        params.items[index].section === SECTION && value ? forServer(value) : value,
      )
    : found;
};

/** Change a setting for this workspace if it says something of its own, else for the user. */
export async function change(name: string, value: unknown): Promise<void> {
  const found = settings().inspect(name);
  const { Global, Workspace, WorkspaceFolder } = vscode.ConfigurationTarget;
  const place =
    found?.workspaceFolderValue !== undefined
      ? WorkspaceFolder
      : found?.workspaceValue !== undefined
        ? Workspace
        : Global;
  await settings().update(name, value, place);
}
