--- How a program of mercury-lsp is started: its Python imports nothing from the workspace.
local M = {}

--- A folder that is always there, and is nobody's workspace.
M.cwd = vim.env.VIMRUNTIME

--- Python's variables, each emptied, which is as good as unset: PYTHONPATH may name the workspace.
---@return table<string, string>
function M.env()
  local env = { PYTHONPATH = "", PYTHONHOME = "", PYTHONUSERBASE = "" }
  for name in pairs(vim.fn.environ()) do
    if name:upper():sub(1, 6) == "PYTHON" then
      env[name] = ""
    end
  end
  return env
end

--- A command whose program is found from any folder.
---@param cmd string[]
---@return string[]
function M.command(cmd)
  local found = vim.list_slice(cmd)
  found[1] = vim.fn.exepath(cmd[1])
  return found
end

return M
