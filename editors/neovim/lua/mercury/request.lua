--- One request at a time: sent on the key, the older one cancelled, late answers dropped.
local client = require("mercury.client")
local ghost = require("mercury.ghost")
local menu = require("mercury.menu")

local M = {}

M.INVOKED, M.AUTOMATIC = 1, 2 -- LSP 3.18, InlineCompletionTriggerKind

---@type { client: vim.lsp.Client, id: integer, buf: integer }?
local flying = nil

--- Where and at which changedtick the last automatic request was made: a key raises several events.
local asked = ""

function M.cancel()
  asked = ""
  if flying then
    local request = flying
    flying = nil
    client.cancel(request.client, request.id)
  end
end

--- Let the next automatic request be made where the last one was, unless that is under way.
function M.forget()
  if not flying then
    asked = ""
  end
end

--- LSP items as byte columns on the cursor's line. Snippets are not asked for and not shown.
local function to_items(result, buf, encoding, row, col)
  local list = result and (result.items or result) or {}
  local line = vim.api.nvim_buf_get_lines(buf, row, row + 1, false)[1] or ""
  local items = {}
  for _, entry in ipairs(list) do
    local text = entry.insertText
    local range = entry.range
    if type(text) == "string" and (not range or range.start.line == row) then
      local first = range and client.byte_column(line, range.start.character, encoding) or col
      local last = range and client.byte_column(line, range["end"].character, encoding) or col
      items[#items + 1] = { text = text, row = row, first = first, last = last }
    end
  end
  return items
end

--- Ask for completions at the cursor and show them if nothing changed meanwhile.
---@param buf integer
---@param kind integer
function M.send(buf, kind)
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local tick = vim.api.nvim_buf_get_changedtick(buf)
  local place = table.concat({ buf, tick, row, col }, ":")
  if kind == M.AUTOMATIC and place == asked then
    return
  end
  M.cancel()
  local server = client.attached(buf)
  if not server then
    return
  end
  asked = place
  local params = client.position_params(server)
  params.context = { triggerKind = kind }
  local mine = {}
  local function answer(err, result)
    if flying ~= mine then
      return
    end
    flying = nil
    local now = vim.api.nvim_get_current_buf() == buf and vim.api.nvim_win_get_cursor(0)
    local moved = not now or now[1] ~= row or now[2] ~= col
    local inserting = vim.api.nvim_get_mode().mode:sub(1, 1) == "i"
    if err or moved or not inserting or vim.api.nvim_buf_get_changedtick(buf) ~= tick then
      return
    end
    if result == nil or result == vim.NIL then
      return -- overtaken by a newer request: what is shown still fits
    end
    local items = to_items(result, buf, server.offset_encoding, row - 1, col)
    if menu.in_the_way() then
      ghost.clear()
    else
      ghost.show(buf, items)
    end
  end
  flying = mine
  local id = client.request(server, "textDocument/inlineCompletion", params, answer, buf)
  if id and flying == mine then
    mine.client, mine.id, mine.buf = server, id, buf
  elseif flying == mine then
    flying = nil
  end
end

return M
