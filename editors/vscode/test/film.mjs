// Plays a person in VS Code with the real server and mini, and keeps what is seen: `film.mjs FOLDER`,
// started by tests/editors/film.py. The ghost comes first; it is accepted by word, typed through,
// and accepted.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Editor } from "./editor.mjs";

const TEXT = `import math


def circumference(radius):
    return 2 * math.pi * radius


def half_circumference(radius):
    return math
`;
const SETTINGS = {
  "mercury.deadlineMs": 60_000,
  "breadcrumbs.enabled": false,
  "editor.cursorBlinking": "solid",
  "editor.fontSize": 15,
  "editor.scrollBeyondLastLine": false,
  "window.commandCenter": false,
  "workbench.activityBar.location": "hidden",
  "workbench.layoutControl.enabled": false,
};

const [folder] = process.argv.slice(2);
const film = [];
const editor = await Editor.start();
try {
  const window = await editor.open(TEXT, {
    name: "circle.py",
    command: [process.env.MERCURY_SERVER],
    settings: SETTINGS,
    size: { width: 760, height: 320 },
  });
  await window.until("mini is ready", (frame) => frame.mercury.includes("ready"));
  await window.page.keyboard.press("Control+b");
  await window.goTo();
  await window.type(".");
  await window.untilGhost();
  await shoot(2_000);
  await window.press("Control+ArrowRight");
  await shoot(900);
  for (const key of window.frame.ghost.slice(0, 4)) {
    await window.type(key);
    await shoot(250);
  }
  await window.press("Tab");
  await window.until("no ghost", (frame) => frame.ghost === "");
  await keep(1_500);
  await writeFile(join(folder, "film.json"), JSON.stringify(film));

  /** Keep what is seen once all is answered, to be shown for so long. */
  async function shoot(ms) {
    await window.untilAnswered();
    await keep(ms);
  }

  async function keep(ms) {
    const file = `${film.length}.png`;
    await window.page.screenshot({ path: join(folder, file) });
    film.push({ file, ms });
  }
} finally {
  await editor.stop();
}
