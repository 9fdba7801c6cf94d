if vim.g.loaded_mercury then
  return
end
vim.g.loaded_mercury = true

local actions = {
  status = function()
    local client = require("mercury.client")
    vim.notify(("mercury: %s %s"):format(client.state, client.message))
  end,
  enable = function()
    require("mercury").enable()
  end,
  disable = function()
    require("mercury").disable()
  end,
  toggle = function()
    require("mercury").toggle()
  end,
  restart = function()
    require("mercury").restart()
  end,
  download = function()
    if not require("mercury.client").download() then
      vim.notify("mercury: there is nothing to download")
    end
  end,
  log = function()
    vim.cmd.tabedit(vim.lsp.get_log_path())
  end,
}

vim.api.nvim_create_user_command("Mercury", function(command)
  local action = actions[command.args ~= "" and command.args or "status"]
  if action then
    action()
  else
    vim.notify(("mercury: there is no %q"):format(command.args), vim.log.levels.ERROR)
  end
end, {
  nargs = "?",
  complete = function(lead)
    return vim.tbl_filter(function(name)
      return vim.startswith(name, lead)
    end, vim.tbl_keys(actions))
  end,
  desc = "Mercury: status, enable, disable, toggle, restart, download, log",
})
