--- The plugin's options and their defaults. What the server can be told is passed on unread.
local M = {}

---@class mercury.Options
M.defaults = {
  --- How to start the server: the script, never `python -m` (that would import the workspace).
  cmd = { "mercury-lsp", "--stdio" },
  --- Settings of the server, as in its documentation: { deadlineMs = 150, model = "mini", … }.
  settings = {},
  --- Whether suggestions appear by themselves while typing.
  automatic = true,
  --- Filetypes without suggestions.
  disabled_filetypes = { "TelescopePrompt", "gitcommit", "help", "markdown", "text" },
  --- Whether ghost text may stand beside an open completion menu.
  with_menu = false,
  --- Insert-mode keys; false leaves one out. A key without a suggestion does what it always did.
  keys = {
    accept = "<Tab>",
    accept_word = "<M-Right>",
    accept_line = "<M-Down>",
    next = "<M-]>",
    previous = "<M-[>",
    dismiss = "<C-]>",
  },
}

M.options = vim.deepcopy(M.defaults)

--- Problems with the options a user gave, each one sentence.
---@param given table
---@return string[]
function M.set(given)
  local problems = {}
  local accepted = {}
  for key, value in pairs(given) do
    local default = M.defaults[key]
    if default == nil then
      problems[#problems + 1] = ("unknown option %q"):format(key)
    elseif type(value) ~= type(default) then
      problems[#problems + 1] = ("option %q must be a %s"):format(key, type(default))
    else
      accepted[key] = value
    end
  end
  M.options = vim.tbl_deep_extend("force", vim.deepcopy(M.defaults), accepted)
  return problems
end

return M
