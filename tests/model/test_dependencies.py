"""What dependencies are told before they are imported."""

import logging
from pathlib import Path

import pytest

from mercury_model import dependencies


def test_a_package_that_is_not_imported_yet_is_silenced_whatever_the_user_set() -> None:
    environment = {"ORT_DISABLE_TELEMETRY": "0"}
    assert dependencies.silence("onnxruntime", imported=(), environment=environment)
    assert environment == {"ORT_DISABLE_TELEMETRY": "1"}


def test_one_that_somebody_imported_before_us_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert not dependencies.silence("onnxruntime", ["onnxruntime"], environment={})
    assert "onnxruntime was imported before mercury_model" in caplog.text
    assert "ORT_DISABLE_TELEMETRY=1" in caplog.text


def test_one_that_was_imported_in_silence_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    environment = dict(dependencies.SILENCE["onnxruntime"])
    assert dependencies.silence("onnxruntime", ["onnxruntime"], environment)
    assert caplog.text == ""


def test_files_go_into_our_cache_unless_the_user_named_a_folder() -> None:
    environment: dict[str, str] = {}
    dependencies.keep_files("triton", Path("/cache"), environment)
    dependencies.keep_files("triton", Path("/other"), environment)
    assert environment == {"TRITON_CACHE_DIR": str(Path("/cache/triton"))}
