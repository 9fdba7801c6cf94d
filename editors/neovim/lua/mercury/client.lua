--- The server's process: found, started once for all buffers, restarted when it crashes.
--- Also the few calls whose form differs between Neovim 0.10 and 0.12.
local config = require("mercury.config")
local process = require("mercury.process")

local M = {}

local NAME = "mercury"
local BACK_OFF_MS = { 1000, 4000, 16000 }
local FORGIVEN_AFTER_MS = 180000 -- a crash longer ago than this does not count
local OLDEST = "0.1.0" -- the first server that does all that is asked of it here
local MODERN = vim.fn.has("nvim-0.11") == 1

---@type "off"|"starting"|"loading"|"ready"|"missing"|"error"
M.state = "off"
M.message = ""
M.later = vim.defer_fn -- a field, so that tests need not wait
local crashes = 0
local crashed_at = 0
local stopping = false
local left_off = false -- until somebody says otherwise: what is wrong will not go away by itself
local resume_download ---@type thread? waits for the answer to whether to download the weights

local function set_state(state, message)
  M.state, M.message = state, message or ""
  vim.api.nvim_exec_autocmds("User", { pattern = "MercuryStatus", modeline = false })
  vim.cmd.redrawstatus()
end

--- Say something short enough for one row of a narrow screen: more would make Neovim wait for a
--- key, and take it from whoever is typing. `:Mercury status` has the rest. What is said in insert
--- mode is said at its end: Neovim would draw "-- INSERT --" over it at once.
local function tell(text, level)
  local function say()
    vim.notify("mercury: " .. text, level)
  end
  if vim.api.nvim_get_mode().mode:sub(1, 1) == "i" then
    local callback = vim.schedule_wrap(say)
    vim.api.nvim_create_autocmd("InsertLeave", { once = true, callback = callback })
  else
    say()
  end
end

---@return vim.lsp.Client?
function M.get()
  return vim.lsp.get_clients({ name = NAME })[1]
end

---@return vim.lsp.Client?
function M.attached(buf)
  local client = vim.lsp.get_clients({ name = NAME, bufnr = buf })[1]
  return client and client.initialized and client or nil
end

function M.request(client, method, params, handler, buf)
  local ok, id
  if MODERN then
    ok, id = client:request(method, params, handler, buf)
  else
    ok, id = client.request(method, params, handler, buf)
  end
  return ok and id or nil
end

function M.cancel(client, id)
  if MODERN then
    client:cancel_request(id)
  else
    client.cancel_request(id)
  end
end

function M.position_params(client)
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  if not MODERN and client.offset_encoding == "utf-16" then
    -- Neovim 0.10 compares bytes with characters here, and finds the line's end.
    local column = vim.api.nvim_win_get_cursor(0)[2]
    params.position.character = select(2, vim.str_utfindex(vim.api.nvim_get_current_line(), column))
  end
  return params
end

--- An LSP character of `line` as a byte column, clamped to the line.
function M.byte_column(line, character, encoding)
  if encoding == "utf-8" then
    return math.min(character, #line)
  end
  if MODERN then
    return vim.str_byteindex(line, encoding, character, false)
  end
  local ok, column = pcall(vim.str_byteindex, line, character, encoding == "utf-16")
  return ok and column or #line
end

--- Whether a server offers no suggestions, or says that it is of a version before `OLDEST`.
local function is_too_old(server)
  local version = server.serverInfo and server.serverInfo.version
  local before = version and vim.version.lt(version, OLDEST)
  return before or not server.capabilities.inlineCompletionProvider
end

local function on_init(client, server)
  if not is_too_old(server) then
    return
  end
  left_off = true
  local version = server.serverInfo and server.serverInfo.version or "without inline completions"
  set_state(
    "error",
    ("this is mercury-lsp %s, and %s or later is needed."):format(version, OLDEST)
      .. " Run: pip install --upgrade mercury-lsp; then `:Mercury restart`."
  )
  tell("the server is too old; see `:Mercury status`", vim.log.levels.WARN)
  M.end_client(client)
end

local function on_exit(code, signal)
  vim.schedule(function()
    resume_download = nil
    if left_off then
      return
    end
    if stopping or (code == 0 and signal == 0) then
      set_state("off")
      return
    end
    local now = vim.uv.now()
    crashes = now - crashed_at > FORGIVEN_AFTER_MS and 1 or crashes + 1
    crashed_at = now
    local wait = BACK_OFF_MS[crashes]
    if not wait then
      left_off = true
      set_state(
        "error",
        ("the server stopped %d times and was not restarted."):format(crashes)
          .. " `:Mercury log` shows why; `:Mercury restart` tries again."
      )
      tell("the server keeps stopping; see `:Mercury status`", vim.log.levels.ERROR)
      return
    end
    set_state("starting", "the server stopped; starting it again")
    M.later(function()
      if not stopping then
        require("mercury").attach_all()
      end
    end, wait)
  end)
end

local handlers = {
  ["mercury/status"] = function(_, status)
    if status then
      set_state(status.state, status.message)
    end
  end,
  -- Neovim would open a prompt here, which takes the keys of whoever is typing.
  ["window/showMessageRequest"] = function(err, question, context)
    local asker, main = coroutine.running()
    local download = question.actions and question.actions[1]
    if not asker or main or not download or download.title ~= "Download" then
      return vim.lsp.handlers["window/showMessageRequest"](err, question, context)
    end
    resume_download = asker
    tell("the weights are missing or damaged; run `:Mercury download`", vim.log.levels.WARN)
    return coroutine.yield() and download or vim.NIL
  end,
}

--- Let the server download the missing weights.
---@return boolean whether it misses any
function M.download()
  local asker = resume_download
  resume_download = nil
  return asker ~= nil and coroutine.resume(asker, true)
end

--- Start the server, or attach the running one to `buf`.
function M.start(buf)
  if left_off then
    return
  end
  local cmd = config.options.cmd
  if vim.fn.executable(cmd[1]) == 0 then
    if M.state ~= "error" then
      set_state("error", cmd[1] .. " was not found; `:checkhealth mercury` says what to do")
      tell(("%q was not found; see `:checkhealth mercury`"):format(cmd[1]), vim.log.levels.WARN)
    end
    return
  end
  stopping = false
  local settings = config.options.settings
  if vim.tbl_isempty(settings) then
    settings = vim.empty_dict() -- any other empty table is a list in JSON
  end
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  capabilities.experimental = { mercuryStatus = true }
  if not M.get() then
    set_state("starting")
  end
  vim.lsp.start({
    name = NAME,
    cmd = process.command(cmd),
    cmd_cwd = process.cwd,
    cmd_env = process.env(),
    root_dir = vim.fs.root(buf, { ".git", "pyproject.toml", "package.json" }) or vim.fn.getcwd(),
    capabilities = capabilities,
    init_options = { mercury = settings },
    settings = { mercury = settings },
    handlers = handlers,
    on_init = on_init,
    on_exit = on_exit,
  }, {
    bufnr = buf,
    reuse_client = function(client)
      return client.name == NAME and not client.is_stopped(client)
    end,
  })
end

function M.end_client(client)
  if MODERN then
    client:stop()
  else
    client.stop()
  end
end

function M.stop()
  stopping = true
  left_off = false
  crashes = 0
  local client = M.get()
  if client then
    M.end_client(client)
  else
    set_state("off")
  end
end

return M
