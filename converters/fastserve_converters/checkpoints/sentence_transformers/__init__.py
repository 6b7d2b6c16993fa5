"""Reading the files by which sentence-transformers says how texts become vectors or scores.

`modules.json` lists the modules in order, the Transformer first, each with a folder of its own; the Transformer's
settings are in `sentence_bert_config.json`, those of the whole in `config_sentence_transformers.json`
(https://sbert.net/docs/sentence_transformer/usage/custom_models.html). What is read here is what sentence-transformers
6.2 applies; a module, key or value that is not carried is refused by name, or named in a note where it has no effect.
"""

from fastserve_converters.checkpoints.sentence_transformers.config_file import read_json
from fastserve_converters.checkpoints.sentence_transformers.folder import (
    SentenceFolder,
    TextSettings,
    read_sentence_folder,
)
from fastserve_converters.checkpoints.sentence_transformers.head import SentenceHead
from fastserve_converters.checkpoints.sentence_transformers.settings import SentenceSettings
from fastserve_converters.checkpoints.sentence_transformers.transformer import TransformerSettings

__all__ = [
    "SentenceFolder",
    "SentenceHead",
    "SentenceSettings",
    "TextSettings",
    "TransformerSettings",
    "read_json",
    "read_sentence_folder",
]
