"""On the published files of Qwen2.5-Coder, where they are in the cache folder."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mercury_lsp.config import surroundings
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

pytestmark = pytest.mark.qwen
FORMAT = registry.card("qwen-0.5b").infill
ODD = [
    "\U0001f600 \U0001f1e9\U0001f1ea", "漢字かな交じり文 한국어", "a\r\nb\r\n\r\n", "nul\0nul\0\0",
    "\t\t  x", "ﬁ ﷽",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    if not registry.is_available("qwen-0.5b", surroundings().cache_dir):
        pytest.skip("the weights are not here; run: mercury-lsp models pull qwen-0.5b")
    return registry.tokenizer("qwen-0.5b", surroundings().cache_dir)


def test_the_tokenizer_of_the_metadata_is_that_of_transformers(tokenizer: Tokenizer) -> None:
    base = registry.find("qwen-0.5b").base
    assert base is not None
    peer = AutoTokenizer.from_pretrained(surroundings().cache_dir, gguf_file=base.file)
    for text in (*ODD, *Path(registry.__file__).read_text("utf-8").splitlines(keepends=True)):
        assert tokenizer.encode(text) == peer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("mark", ["<|fim_prefix|>", "<|file_sep|>", "<|endoftext|>", "<tool_call>"])
def test_a_mark_neither_comes_from_a_text_nor_gets_into_one(
    tokenizer: Tokenizer, mark: str
) -> None:
    ids = tokenizer.encode(f"a{mark}b")
    assert max(ids) < FORMAT.text_ids
    assert tokenizer.decode(ids) == f"a{mark}b"
    assert tokenizer.decode([*FORMAT.marks, *FORMAT.end_ids]) == ""
    assert not any(tokenizer.token_bytes[i] for i in (*FORMAT.marks, *FORMAT.end_ids))
