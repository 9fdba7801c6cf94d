--- `:checkhealth mercury`
local M = {}

local function check_server(cmd)
  local path = vim.fn.exepath(cmd[1])
  if path == "" then
    vim.health.error(cmd[1] .. " was not found", {
      "pip install mercury-lsp",
      "or name it: require('mercury').setup { cmd = { '/path/to/mercury-lsp', '--stdio' } }",
    })
    return
  end
  local process = require("mercury.process")
  local result = vim
    .system({ path, "doctor", "--json" }, {
      text = true,
      timeout = 30000,
      cwd = process.cwd,
      env = process.env(),
    })
    :wait()
  local ok, report = pcall(vim.json.decode, result.stdout or "")
  if not ok then
    vim.health.error(path .. " doctor failed", { vim.trim(result.stderr or "") })
    return
  end
  vim.health.ok("server: " .. path)
  local say = { fine = vim.health.ok, warning = vim.health.warn, broken = vim.health.error }
  for _, finding in ipairs(report.findings) do
    local advice = finding.remedy ~= "" and { finding.remedy } or nil
    say[finding.state](("%s: %s"):format(finding.name, finding.detail), advice)
  end
end

function M.check()
  vim.health.start("mercury")
  if vim.fn.has("nvim-0.10") == 0 then
    vim.health.error("Neovim 0.10 or later is needed: ghost text is drawn with inline virtual text")
    return
  end
  vim.health.ok("Neovim " .. tostring(vim.version()))
  check_server(require("mercury.config").options.cmd)
  local client = require("mercury.client")
  local message = client.message ~= "" and (": " .. client.message) or ""
  vim.health.info("state: " .. client.state .. message)
  local inline = vim.lsp.inline_completion
  if inline and inline.is_enabled() then
    vim.health.warn("vim.lsp.inline_completion is enabled too: two ghost texts will show", {
      "vim.lsp.inline_completion.enable(false)",
    })
  end
end

return M
