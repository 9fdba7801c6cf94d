// Runs in the page: reports what is shown, as text, whenever an animation frame shows it changed.

/** The script; `report` is the function of the page that takes the frames, as JSON. */
export function watchFrames(report) {
  const PALETTE = ".quick-input-widget:not([style*='display: none'])";
  const plain = (text) => text.replace(/\u00a0/g, " ");
  const texts = (selector, root = document) =>
    [...root.querySelectorAll(selector)].map((element) => plain(element.textContent));
  const top = (element) => parseFloat(element.style.top);
  const byTop = (selector, root) =>
    [...root.querySelectorAll(selector)].sort((one, other) => top(one) - top(other));

  function frame() {
    const editor = document.querySelector(".editor-group-container .monaco-editor");
    const status = document.querySelector("#mercury-lsp\\.mercury-lsp\\.mercury a");
    const lines = editor ? byTop(".view-lines > .view-line", editor) : [];
    const below = editor ? texts(".view-zones .suggest-preview-text .view-line", editor) : [];
    const ghost = lines.flatMap((line) => texts(".ghost-text-decoration", line)).join("");
    return {
      lines: lines.map((line) => plain(line.textContent)),
      ghost: [...(ghost || below.length > 0 ? [ghost] : []), ...below].join("\n"),
      menu: texts(".suggest-widget.visible .monaco-list-row .label-name"),
      messages: texts(".notifications-toasts .notification-list-item-message"),
      buttons: texts(".notifications-toasts .notification-list-item-buttons-container .monaco-button"),
      palette: document.querySelector(PALETTE) !== null,
      picks: texts(`${PALETTE} .quick-input-list .label-name`),
      place: texts("[id='status.editor.selection']").join(""),
      terminal: texts(".xterm-rows > div").join("\n").trimEnd(),
      mercury: status?.getAttribute("aria-label") ?? "",
      unsaved: document.querySelector(".tab.active.dirty") !== null,
    };
  }

  let last = "";
  function look() {
    const now = JSON.stringify(frame());
    if (now !== last) {
      last = now;
      window[report](now);
    }
    requestAnimationFrame(look);
  }
  requestAnimationFrame(look);
}
