"""The one owner of a loaded model: its thread, its engine, and the order in which requests run.

    service = ModelService(load)
    service.load(ModelSettings("mini")).result()
    for output in service.drafts(FimPrompt(prefix, suffix), SamplingParams()):
        print(output.text)

Whoever wants text asks a `ModelService`: the language server, the library, the commands. `drafts`
and `prefill` are pulled: the model takes a step for a request only while its consumer waits for the
result. `submit` answers with a future and shares passes of the network with other requests. No
client sees the runtime, so that only the service's thread can touch it. Knows no protocol.
"""

from mercury_lsp.service.model_service import ModelService
from mercury_lsp.service.pool import ModelServices, ServiceLease
from mercury_lsp.service.store import ModelStore, model_store
from mercury_lsp.service.values import (
    Load,
    ModelInfo,
    ModelSettings,
    Progress,
    RequestOptions,
    ServiceClosed,
    Superseded,
)

__all__ = [
    "Load",
    "ModelInfo",
    "ModelService",
    "ModelServices",
    "ModelSettings",
    "ModelStore",
    "Progress",
    "RequestOptions",
    "ServiceClosed",
    "ServiceLease",
    "Superseded",
    "model_store",
]
