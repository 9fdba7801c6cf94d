// Runs in the page: reports what is shown, as text, whenever an animation frame shows it changed.

/** The script; `report` is the function of the page that takes the frames, as JSON. */
export function watchFrames(report) {
  const plain = (text) => text.replace(/\u00a0/g, " ");
  const texts = (selector, root = document) =>
    [...root.querySelectorAll(selector)].map((element) => plain(element.textContent));
  const byTop = (selector, root) =>
    [...root.querySelectorAll(selector)].sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top));

  function frame() {
    const editor = document.querySelector(".editor-group-container .monaco-editor");
    const status = document.querySelector("#mercury-lsp\\.mercury-lsp\\.mercury a");
    const lines = editor ? byTop(".view-lines > .view-line", editor) : [];
    const below = editor ? texts(".view-zones .suggest-preview-text .view-line", editor) : [];
    const ghost = lines.flatMap((line) => texts(".ghost-text-decoration, .ghost-text", line)).join("");
    return {
      lines: lines.map((line) => plain(line.textContent)),
      ghost: [...(ghost || below.length > 0 ? [ghost] : []), ...below].join("\n"),
      menu: texts(".suggest-widget.visible .monaco-list-row .label-name"),
      messages: texts(".notifications-toasts .notification-list-item-message"),
      buttons: texts(".notifications-toasts .notification-list-item-buttons-container .monaco-button"),
      picks: texts(".quick-input-widget:not([style*='display: none']) .quick-input-list .label-name"),
      place: texts("[id='status.editor.selection']").join(""),
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
