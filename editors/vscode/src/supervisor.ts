// The server's life: found, started, started again when it crashes, stopped.

import { mkdir } from "node:fs/promises";
import * as vscode from "vscode";
import {
  CloseAction,
  type CloseHandlerResult,
  ErrorAction,
  LanguageClient,
  type LanguageClientOptions,
  type Middleware,
  type StaticFeature,
} from "vscode-languageclient/node";
import { findServer, offerRemedy, offerUpdate, withoutPython } from "./server";
import { configuration, forServer } from "./settings";
import type { State } from "./status";

const BACK_OFF_MS = [1_000, 4_000, 16_000];

/** A crash longer ago than this does not count. */
const FORGIVEN_AFTER_MS = 180_000;

/** The first server that does all that is asked of it here. */
const OLDEST = "0.1.0";

const SCHEMES = ["file", "untitled", "vscode-remote", "vscode-notebook-cell"];

export class Supervisor {
  private client: Client | undefined;
  /** What was found when a program was last looked for. */
  private command: string | undefined;
  private crashes = 0;
  private crashedAt = 0;
  private waiting: NodeJS.Timeout | undefined;
  /** How often it was stopped: who waited meanwhile has nothing to start any more. */
  private stops = 0;

  /**
   * The server is started in `folder`, which is not the workspace: files of that must not run.
   * `report` is told what the server is doing; `provide` has the last word on its suggestions.
   */
  constructor(
    private readonly folder: string,
    private readonly log: vscode.LogOutputChannel,
    private readonly report: (state: State, message?: string) => void,
    private readonly provide: Middleware["provideInlineCompletionItems"],
  ) {}

  async start(): Promise<void> {
    this.report("loading", "starting the server");
    const { stops } = this;
    const command = await findServer();
    await mkdir(this.folder, { recursive: true });
    if (stops !== this.stops) {
      return;
    }
    this.command = command;
    if (command === undefined) {
      this.report("error", "mercury-lsp was not found");
      void offerRemedy();
      return;
    }
    this.log.info(`starting ${command}`);
    const started = { cwd: this.folder, env: withoutPython() };
    const executable = { command, args: ["--stdio"], options: started };
    const options = this.options(() => {
      if (client === this.client) {
        this.closed();
      }
    });
    const client: Client = new Client("mercury", "Mercury", executable, options);
    client.registerFeature(statusCapability);
    client.onNotification("mercury/status", (params: { state: State; message: string }) => {
      if (client === this.client) {
        this.report(params.state, params.message);
      }
    });
    this.client = client;
    try {
      await client.start();
      if (client === this.client && isTooOld(client)) {
        await this.refuse(client.initializeResult?.serverInfo?.version);
      }
    } catch (error) {
      this.log.error(`the server did not start: ${String(error)}`);
      if (client === this.client) {
        this.closed(); // a program that cannot be run closes no connection
      }
    }
  }

  /** Start again, whatever happened before; of several at once the last one does. */
  async restart(): Promise<void> {
    const stopped = this.stop();
    const { stops } = this;
    await stopped;
    if (stops === this.stops) {
      this.crashes = 0;
      await this.start();
    }
  }

  /** Start again if another program would be found now, or one at last. */
  async follow(): Promise<void> {
    if ((await findServer()) !== this.command) {
      await this.restart();
    }
  }

  async stop(): Promise<void> {
    const client = this.client;
    this.stops += 1;
    this.client = undefined;
    clearTimeout(this.waiting);
    this.report("off");
    if (client?.needsStop()) {
      try {
        await client.stop();
      } catch (error) {
        this.log.warn(`the server did not stop in time: ${String(error)}`);
      }
    }
  }

  /** A sentence with the number and the median time of requests; empty if no server runs. */
  async answered(): Promise<string> {
    if (!this.client?.isRunning()) {
      return "";
    }
    const asked = { since: 0 };
    const { records } = await this.client.sendRequest<Statistics>("mercury/statistics", asked);
    const times = records.map(({ total_ms }) => total_ms).sort((one, other) => one - other);
    const half = times[Math.floor(times.length / 2)];
    const speed = half === undefined ? "" : `, half of them within ${Math.ceil(half)} ms`;
    return `The server answered ${times.length} requests${speed}.`;
  }

  private async refuse(version: string | undefined): Promise<void> {
    await this.stop();
    this.report("error", "mercury-lsp is too old");
    void offerUpdate(version, OLDEST);
  }

  private options(closed: () => void): LanguageClientOptions {
    return {
      documentSelector: SCHEMES.map((scheme) => ({ scheme })),
      outputChannel: this.log,
      initializationOptions: forServer(),
      initializationFailedHandler: () => false, // it is told of and tried again as a crash
      middleware: { provideInlineCompletionItems: this.provide, workspace: { configuration } },
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: (): CloseHandlerResult => {
          closed();
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
    };
  }

  /** Restart a server that crashed, up to three times with growing pauses. */
  private closed(): void {
    this.client = undefined;
    const now = Date.now();
    this.crashes = now - this.crashedAt > FORGIVEN_AFTER_MS ? 1 : this.crashes + 1;
    this.crashedAt = now;
    const wait = BACK_OFF_MS[this.crashes - 1];
    if (wait === undefined) {
      this.giveUp();
      return;
    }
    this.log.warn(`the server stopped; restarting it in ${wait / 1_000} s`);
    this.report("loading", "the server stopped; starting it again");
    this.waiting = setTimeout(() => void this.start(), wait);
  }

  private giveUp(): void {
    const said = `The Mercury server stopped ${this.crashes} times and was not restarted.`;
    const restart = "Restart the Server";
    const show = "Show the Log";
    this.report("error", said);
    this.log.error(said);
    void vscode.window
      .showErrorMessage(`${said} See the log, or run mercury-lsp doctor.`, restart, show)
      .then((answer) => {
        if (answer === restart) {
          return this.restart();
        }
        return answer === show && this.log.show();
      });
  }
}

interface Statistics {
  records: { total_ms: number }[];
}

/** Whether it offers no suggestions, or says that it is of a version before `OLDEST`. */
function isTooOld(client: LanguageClient): boolean {
  const { capabilities, serverInfo } = client.initializeResult ?? { capabilities: {} };
  const order = { numeric: true };
  const before = serverInfo?.version?.localeCompare(OLDEST, "en", order) ?? 0;
  return !capabilities.inlineCompletionProvider || before < 0;
}

/** Its complaints go to the log: what a user can mend is said by the supervisor. */
class Client extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
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
