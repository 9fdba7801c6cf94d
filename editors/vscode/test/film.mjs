// Takes the README's picture of VS Code, with the real server and mini. It needs the environment
// that tests/editors/test_vscode.py gives to the suites.

import { fileURLToPath } from "node:url";
import { Editor } from "./editor.mjs";

const TEXT = `import math


class Circle:
    def __init__(self, radius):
        self.radius = radius

    def area(self):
        return math
`;
const SETTINGS = {
  "mercury.deadlineMs": 60_000,
  "breadcrumbs.enabled": false,
  "editor.cursorBlinking": "solid",
  "editor.fontSize": 15,
  "editor.inlineSuggest.syntaxHighlightingEnabled": false,
  "editor.scrollBeyondLastLine": false,
  "window.commandCenter": false,
  "workbench.activityBar.location": "hidden",
  "workbench.layoutControl.enabled": false,
};

const editor = await Editor.start();
try {
  const window = await editor.open(TEXT, {
    name: "circle.py",
    command: [process.env.MERCURY_SERVER],
    settings: SETTINGS,
    size: { width: 760, height: 380 },
  });
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
  await window.page.keyboard.press("Control+b");
  await window.goTo();
  await window.type(".");
  await window.untilGhost();
  await window.untilAnswered();
  const path = fileURLToPath(new URL("../screenshot.png", import.meta.url));
  await window.page.screenshot({ path });
} finally {
  await editor.stop();
}
