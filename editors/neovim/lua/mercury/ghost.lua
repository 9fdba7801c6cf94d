--- One suggestion, drawn as ghost text at the cursor. Knows nothing of requests or servers.
local M = {}

local namespace = vim.api.nvim_create_namespace("mercury.ghost")

---@class mercury.Item
---@field text string      what the whole item inserts, from `first` on
---@field row integer      0-based line of the edit
---@field first integer    0-based byte column where the replaced text begins
---@field last integer     0-based byte column where the replaced text ends

---@class mercury.Ghost
---@field buf integer
---@field row integer
---@field col integer      byte column of the cursor it was drawn at
---@field rest string      what is still to be typed, from the cursor on
---@field tail string      text behind the cursor that accepting replaces
---@field behind string    all text behind the cursor on its line
---@field items mercury.Item[]
---@field index integer

---@type mercury.Ghost?
M.current = nil

--- By buffer, what was dismissed: the line as it would have become, before what stands behind it.
---@type table<integer, table<string, true>>
local dismissed = {}

local function outcome(row, before, rest)
  return row .. ":" .. before .. rest
end

--- What remains of an item once the text before the cursor is taken off; nil if it does not fit.
---@param item mercury.Item
---@param line string the cursor's line
---@param row integer
---@param col integer
---@return string? rest, string? tail
function M.remainder(item, line, row, col)
  if item.row ~= row or item.first > col or item.last > #line then
    return nil
  end
  local typed = line:sub(item.first + 1, col)
  if item.text:sub(1, #typed) ~= typed then
    return nil
  end
  local tail = line:sub(col + 1, math.max(col, item.last))
  return item.text:sub(#typed + 1), tail
end

--- Ghost text never repeats what already stands behind the cursor.
local function visible(rest, tail)
  if tail ~= "" and vim.endswith(rest, tail) then
    return rest:sub(1, #rest - #tail)
  end
  return rest
end

local function draw(ghost)
  vim.api.nvim_buf_clear_namespace(ghost.buf, namespace, 0, -1)
  local lines = vim.split(visible(ghost.rest, ghost.tail), "\n", { plain = true })
  local below = {}
  for index = 2, #lines do
    below[#below + 1] = { { lines[index], "MercuryGhost" } }
  end
  local count = #ghost.items > 1 and (" (%d/%d)"):format(ghost.index, #ghost.items) or ""
  local inline = { { lines[1], "MercuryGhost" } }
  if count ~= "" then
    inline[2] = { count, "MercuryHint" }
  end
  vim.api.nvim_buf_set_extmark(ghost.buf, namespace, ghost.row, ghost.col, {
    virt_text = inline,
    virt_text_pos = "inline",
    virt_lines = #below > 0 and below or nil,
    hl_mode = "replace",
    right_gravity = true,
  })
end

local function cursor(buf)
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local line = vim.api.nvim_buf_get_lines(buf, row - 1, row, false)[1] or ""
  return row - 1, col, line
end

--- Draw the first of the items that fits the text at the cursor and was not dismissed. Returns
--- whether one did.
---@param buf integer
---@param items mercury.Item[]
---@param index? integer which to try first
---@return boolean
function M.show(buf, items, index)
  local row, col, line = cursor(buf)
  local unwanted = dismissed[buf] or {}
  for offset = 0, #items - 1 do
    local at = (((index or 1) - 1 + offset) % #items) + 1
    local rest, tail = M.remainder(items[at], line, row, col)
    local fits = rest and rest ~= "" and visible(rest, tail) ~= ""
    if fits and not unwanted[outcome(row, line:sub(1, col), rest)] then
      M.current = {
        buf = buf,
        row = row,
        col = col,
        rest = rest,
        tail = tail,
        behind = line:sub(col + 1),
        items = items,
        index = at,
      }
      draw(M.current)
      return true
    end
  end
  M.clear()
  return false
end

--- After the user typed or moved: keep what still fits, at once, so that nothing flickers.
---@return boolean whether ghost text is still shown
function M.follow()
  local ghost = M.current
  if not ghost then
    return false
  end
  local row, col, line = cursor(ghost.buf)
  local here = ghost.buf == vim.api.nvim_get_current_buf() and row == ghost.row
  if not here or line:sub(col + 1) ~= ghost.behind then
    M.clear()
    return false
  end
  -- What was typed before the cursor moves the end of the replaced text along.
  local moved = col - ghost.col
  local items = vim.tbl_map(function(item)
    return vim.tbl_extend("force", item, { last = math.max(col, item.last + moved) })
  end, ghost.items)
  local rest, tail = M.remainder(items[ghost.index], line, row, col)
  if not rest or rest == "" or tail ~= ghost.tail then
    M.clear()
    return false
  end
  M.current = vim.tbl_extend("force", ghost, { col = col, rest = rest, items = items })
  draw(M.current)
  return true
end

--- Take the ghost away, and do not offer it or what remains of it again.
function M.dismiss()
  local ghost = assert(M.current)
  local _, col, line = cursor(ghost.buf)
  dismissed[ghost.buf] = dismissed[ghost.buf] or {}
  dismissed[ghost.buf][outcome(ghost.row, line:sub(1, col), ghost.rest)] = true
  M.clear()
end

--- Offer again in a buffer what was dismissed there.
---@param buf integer
function M.allow(buf)
  dismissed[buf] = nil
end

function M.clear()
  local ghost = M.current
  M.current = nil
  if ghost and vim.api.nvim_buf_is_valid(ghost.buf) then
    vim.api.nvim_buf_clear_namespace(ghost.buf, namespace, 0, -1)
  end
end

--- Insert `text`, the beginning of the ghost, as one undo step; all of it replaces the tail too.
--- What is left of the ghost on its line stays.
---@param text string
function M.insert(text)
  local ghost = assert(M.current)
  local whole = text == ghost.rest
  local last = ghost.col + (whole and #ghost.tail or 0)
  local lines = vim.split(text, "\n", { plain = true })
  vim.cmd("let &l:undolevels = &l:undolevels") -- closes the undo block of what was typed so far
  vim.api.nvim_buf_set_text(ghost.buf, ghost.row, ghost.col, ghost.row, last, lines)
  local row = ghost.row + #lines
  local col = (#lines == 1 and ghost.col or 0) + #lines[#lines]
  vim.api.nvim_win_set_cursor(0, { row, col })
  if whole then
    M.clear()
  else
    M.follow()
  end
end

--- The next word of the ghost: leading space, then a run of word characters or of anything else.
---@param rest string
---@return string
function M.word(rest)
  return rest:match("^%s*[%w_\128-\255]+") or rest:match("^%s*[^%w%s_\128-\255]+") or rest
end

--- The rest of the ghost's line; when it begins with a line break, the line after it.
---@param rest string
---@return string
function M.line(rest)
  return rest:match("^\n*[^\n]+") or rest
end

return M
