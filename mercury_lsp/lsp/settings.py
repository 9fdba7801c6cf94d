"""The settings that an editor sends: with `initialize`, when asked, or when they change."""

import asyncio
from collections.abc import Mapping
from dataclasses import fields

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from mercury_lsp.config import SECTION, Config, camel, parse
from mercury_lsp.lsp.protocol import ANSWER_SECONDS, Server

_KEYS = {SECTION} | {camel(field.name) for field in fields(Config)}


class Settings:
    """Keeps the current `config`.

    Later settings go over those of `initialize`, and these over `base`. Each problem is shown once.
    """

    def __init__(self, server: Server, base: Config) -> None:
        self.config = base
        self._server = server
        self._base = base
        self._said: set[str] = set()

    def initialize(self, raw: object) -> Config:
        """The settings sent with `initialize`, which are the base of all later ones."""
        self._base = self._parse(raw)
        return self._base

    async def ask(self) -> Config | None:
        """The editor's current settings; None if it cannot be asked or does not answer."""
        workspace = self._server.client_capabilities.workspace
        if workspace is None or not workspace.configuration:
            return None
        params = lsp.ConfigurationParams([lsp.ConfigurationItem(section=SECTION)])
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._server.workspace_configuration_async(params)
        except (TimeoutError, JsonRpcException):
            return None
        return self._parse(answer[0] if answer else None)

    async def changed(self, sent: object) -> Config:
        """The settings after a didChangeConfiguration, with or without settings in it."""
        asked = await self.ask()
        if asked is not None:
            return asked
        # Some editors send the settings of every server; without one of our keys they are not ours.
        ours = isinstance(sent, Mapping) and not _KEYS.isdisjoint(sent)
        return self._parse(sent if ours else None)

    async def register(self) -> None:
        """Ask to be told of changes, if the editor supports such a request."""
        workspace = self._server.client_capabilities.workspace
        change = workspace and workspace.did_change_configuration
        if not change or not change.dynamic_registration:
            return
        options = lsp.DidChangeConfigurationRegistrationOptions(section=SECTION)
        method = lsp.WORKSPACE_DID_CHANGE_CONFIGURATION
        registration = lsp.Registration("settings", method, options)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._server.client_register_capability_async(
                    lsp.RegistrationParams([registration])
                )
        except (TimeoutError, JsonRpcException):
            return

    def _parse(self, raw: object) -> Config:
        config, problems = parse(raw, self._base)
        for problem in problems:
            if problem not in self._said:
                self._said.add(problem)
                warning = lsp.ShowMessageParams(lsp.MessageType.Warning, f"mercury: {problem}")
                self._server.window_show_message(warning)
        self.config = config
        return config
