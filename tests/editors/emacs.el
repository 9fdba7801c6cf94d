;;; A person at an Emacs: asks for ghost text behind the last line, and accepts it.  -*- lexical-binding: t -*-
;;; Arguments: the configuration, the file to edit, the folder it is in.  Prints what came of it.

(require 'json)
(require 'lsp-mode)
(require 'lsp-inline-completion)

(defconst patience-seconds 60)

(defun wait-for (what done)
  "Let processes speak until DONE returns something, and return that; WHAT is for the complaint."
  (let ((end (+ (float-time) patience-seconds)) found)
    (while (not (setq found (funcall done)))
      (when (> (float-time) end)
        (error "No %s in %d seconds" what patience-seconds))
      (accept-process-output nil 0.05))
    found))

(pcase-let ((`(,configuration ,file ,folder) command-line-args-left))
  (setq command-line-args-left nil
        lsp-session-file (expand-file-name "session" temporary-file-directory)
        lsp-enabled-clients '(mercury)
        lsp-restart 'ignore)
  (load configuration nil t)
  (lsp-register-custom-settings
   '(("mercury.deadlineMs" 60000) ("mercury.invokedDeadlineMs" 60000)))
  (lsp-workspace-folders-add folder)
  (find-file file)
  (lsp)
  (wait-for "server" (lambda () (lsp-feature? "textDocument/inlineCompletion")))
  (goto-char (point-max))
  (backward-char)
  (wait-for "ghost text"
            (lambda ()
              (lsp-inline-completion-display)
              (overlayp lsp-inline-completion--overlay)))
  (let ((ghost (overlay-get lsp-inline-completion--overlay 'after-string)))
    (lsp-inline-completion-accept)
    (princ (json-encode `((ghost . ,(substring-no-properties ghost))
                          (text . ,(buffer-string)))))
    (set-buffer-modified-p nil)))
