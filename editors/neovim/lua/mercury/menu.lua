--- Completion menus, to which ghost text gives way: Neovim's own, blink.cmp's and nvim-cmp's.
local config = require("mercury.config")

local M = {}

local listening = false -- to nvim-cmp, whose listeners would add up

--- Whether a menu stands open that ghost text must not stand beside.
function M.in_the_way()
  if config.options.with_menu then
    return false
  end
  if vim.fn.pumvisible() == 1 then
    return true
  end
  local blink, cmp = package.loaded["blink.cmp"], package.loaded["cmp"]
  return (blink and blink.is_menu_visible and blink.is_menu_visible())
    or (cmp and cmp.visible and cmp.visible())
    or false
end

--- Call `opened` when a menu opens, and `closed` once such a menu is gone. It may come long after
--- the key, and by then ghost text may stand there.
---@param group integer of autocommands
---@param opened fun()
---@param closed fun()
function M.watch(group, opened, closed)
  local open = false
  local function comes()
    open = true
    opened()
  end
  local goes = vim.schedule_wrap(function()
    if open then
      open = false
      closed()
    end
  end)
  local function on(event, pattern, callback)
    vim.api.nvim_create_autocmd(event, { group = group, pattern = pattern, callback = callback })
  end
  local function listen()
    if not listening then
      listening = true
      local events = require("cmp").event
      events:on("menu_opened", comes)
      events:on("menu_closed", goes)
    end
  end
  on("CompleteChanged", "*", comes)
  on("CompleteDone", "*", goes)
  on("User", "BlinkCmpMenuOpen", comes)
  on("User", "BlinkCmpMenuClose", goes)
  on("User", "CmpReady", listen)
  if vim.g.loaded_cmp then
    listen()
  end
end

return M
