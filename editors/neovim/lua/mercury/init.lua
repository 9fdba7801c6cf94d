--- mercury: ghost text from `mercury-lsp`. This file wires keys and events to the parts.
local client = require("mercury.client")
local config = require("mercury.config")
local ghost = require("mercury.ghost")
local menu = require("mercury.menu")
local request = require("mercury.request")

local M = {}

local group = vim.api.nvim_create_augroup("mercury", { clear = true })
local enabled = true

--- Whether suggestions are on in a buffer. `vim.b.mercury_enabled` overrules the filetype.
---@param buf integer
---@return boolean
function M.is_enabled(buf)
  if not enabled or vim.bo[buf].buftype ~= "" or not vim.bo[buf].modifiable then
    return false
  end
  local own = vim.b[buf].mercury_enabled
  if own ~= nil then
    return own
  end
  local filetype = vim.bo[buf].filetype
  return filetype ~= "" and not vim.tbl_contains(config.options.disabled_filetypes, filetype)
end

local function attach(buf)
  if M.is_enabled(buf) and vim.api.nvim_buf_is_loaded(buf) then
    client.start(buf)
  end
end

function M.attach_all()
  for _, buf in ipairs(vim.api.nvim_list_bufs()) do
    attach(buf)
  end
end

local function typed(event)
  if not M.is_enabled(event.buf) or not config.options.automatic then
    return
  end
  if menu.in_the_way() then
    ghost.clear()
    return
  end
  ghost.follow()
  request.send(event.buf, request.AUTOMATIC)
end

--- What was asked while the model was loading was answered with nothing: ask again.
local function status_changed()
  local buf = vim.api.nvim_get_current_buf()
  if client.state == "ready" and vim.api.nvim_get_mode().mode:sub(1, 1) == "i" then
    request.cancel()
    typed({ buf = buf })
  end
end

local function menu_opened()
  if not config.options.with_menu then
    ghost.clear()
  end
end

--- What the menu kept from being shown is asked for again.
local function menu_closed()
  if not ghost.current and vim.api.nvim_get_mode().mode:sub(1, 1) == "i" then
    request.forget()
    typed({ buf = vim.api.nvim_get_current_buf() })
  end
end

local function leave()
  request.cancel()
  ghost.clear()
end

local INSERT = vim.keycode("<Cmd>lua require('mercury').insert_accepted()<CR>")
local accepted = {} ---@type (fun(rest: string): string)[]

--- Accept a part of the ghost, chosen by `cut(rest)`. Returns false when there is none.
--- A mapping with <expr> may not change text, so this is left to a key press of its own, which
--- comes before any that was pressed since.
local function accept(cut)
  if not ghost.current or ghost.current.buf ~= vim.api.nvim_get_current_buf() then
    return false
  end
  request.cancel()
  accepted[#accepted + 1] = cut
  vim.api.nvim_feedkeys(INSERT, "in", false)
  return true
end

--- Does what the accepting keys ask for; not for others to call.
function M.insert_accepted()
  local cut = table.remove(accepted, 1)
  if cut and ghost.current and ghost.current.buf == vim.api.nvim_get_current_buf() then
    ghost.insert(cut(ghost.current.rest))
  end
end

function M.accept()
  return accept(function(rest)
    return rest
  end)
end

function M.accept_word()
  return accept(ghost.word)
end

function M.accept_line()
  return accept(ghost.line)
end

function M.dismiss()
  if not ghost.current then
    return false
  end
  request.cancel()
  ghost.dismiss()
  return true
end

--- Show the suggestion `step` further on; the first time, ask the server for alternatives.
local function cycle(step)
  local current = ghost.current
  local buf = vim.api.nvim_get_current_buf()
  if current and #current.items > 1 then
    ghost.show(buf, current.items, current.index + step)
  else
    ghost.allow(buf)
    request.send(buf, request.INVOKED)
  end
  return true
end

function M.next()
  return cycle(1)
end

function M.previous()
  return cycle(-1)
end

function M.enable()
  enabled = true
  M.attach_all()
end

function M.disable()
  enabled = false
  leave()
  client.stop()
end

function M.toggle()
  if enabled then
    M.disable()
  else
    M.enable()
  end
end

function M.restart()
  leave()
  client.stop()
  vim.defer_fn(M.attach_all, 500)
end

--- For a statusline: "mercury", with the state behind it when it is not simply ready.
---@return string
function M.status()
  local state = enabled and client.state or "off"
  return state == "ready" and "mercury" or ("mercury: " .. state)
end

local function map_keys()
  for action, key in pairs(config.options.keys) do
    if key then
      vim.keymap.set("i", key, function()
        return M[action]() and "" or key
      end, { expr = true, replace_keycodes = true, desc = "mercury: " .. action })
    end
  end
end

---@param options? mercury.Options
function M.setup(options)
  for _, problem in ipairs(config.set(options or {})) do
    vim.notify("mercury: " .. problem .. "; it is ignored.", vim.log.levels.WARN)
  end
  vim.api.nvim_set_hl(0, "MercuryGhost", { link = "NonText", default = true })
  vim.api.nvim_set_hl(0, "MercuryHint", { link = "DiagnosticHint", default = true })
  vim.api.nvim_clear_autocmds({ group = group })
  local on = function(events, callback)
    vim.api.nvim_create_autocmd(events, { group = group, callback = callback })
  end
  on("FileType", function(event)
    attach(event.buf)
  end)
  on({ "InsertEnter", "TextChangedI", "TextChangedP", "CursorMovedI" }, typed)
  on({ "InsertLeave", "BufLeave" }, leave)
  menu.watch(group, menu_opened, menu_closed)
  on("BufUnload", function(event)
    ghost.allow(event.buf)
  end)
  vim.api.nvim_create_autocmd("User", {
    group = group,
    pattern = "MercuryStatus",
    callback = status_changed,
  })
  map_keys()
  M.attach_all()
end

return M
