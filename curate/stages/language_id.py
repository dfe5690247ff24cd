"""Language of a document, by a fastText classifier over its whole text.

Paper   Joulin et al. 2016 (fastText), arXiv:1607.01759; lid.176 is fastText's language identification of 176 codes
Reads   text        large_string (n,), nulls allowed
Writes  lang        string (n,), the model's own code (lid176: en, als, zh); null where there is no answer
        lang_score  float32 (n,), the model's probability; null where lang is
Rows    all kept, in order; the recipe's `select` decides
Differs from datatrove and the library: a null, empty or white-space text has no language (the library would answer
        what its end-of-line token suggests). Otherwise labels are the library's; a score may pass 1 by 1e-4, as there.
Fails   ModelError when the model is missing or is no fastText classifier
"""

from pathlib import Path

import msgspec
import pyarrow as pa

from curate.models import catalog, fasttext
from curate.schema import text_buffers
from curate.stage import stage


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str = "lid176"  # a model of `curate models`, or a path to a fastText .bin or .ftz


def model_files(config: Config) -> list[str]:
    """The model, part of the fingerprint."""
    return [str(catalog.find(config.model))]


def load_model(config: Config, store: Path) -> fasttext.Model:
    """Convert the model once into the work store and map it."""
    return fasttext.load(fasttext.convert(catalog.find(config.model), store))


@stage(
    "language_id",
    version=1,
    config=Config,
    reads=["text"],
    writes={"lang": pa.string(), "lang_score": pa.float32()},
    load=load_model,
    files=model_files,
)
def language_id(batch: pa.RecordBatch, config: Config, model: fasttext.Model) -> pa.RecordBatch:
    """Add `lang` and `lang_score`."""
    from curate.kernels.fasttext import without_words

    data, offsets = text_buffers(batch["text"])  # a null reads as empty
    labels, scores = model.predict(data, offsets)
    unknown = without_words(data, offsets) | (labels < 0)
    languages = pa.array(model.labels, pa.string()).take(pa.array(labels, mask=unknown))
    return batch.append_column("lang", languages).append_column("lang_score", pa.array(scores, mask=unknown))
