"""Language of a document, by a fastText classifier over its whole text.

Paper   Joulin et al. 2016 (fastText), arXiv:1607.01759; lid.176 is fastText's language identification of 176 codes
Reads   text        large_string (n,), nulls allowed
Writes  lang        string (n,), the model's own code (lid176: en, als, zh); null where there is no answer
        lang_score  float32 (n,), the model's probability; null where lang is
        language_id_pass, _reason, _value, _threshold  only with `thresholds`: whether the score reaches that of the
                    language's file; low_score, or no_thresholds where there is no file or no language
Rows    all kept, in order; the recipe's `select` decides
Differs from datatrove and the library: a null, empty or white-space text has no language (the library would answer
        what its end-of-line token suggests). Otherwise labels are the library's; a score may pass 1 by 1e-4, as there.
Fails   ConfigError for a file of thresholds that cannot be read or lacks `language_score`; ModelError when the model is missing or is no fastText classifier
"""

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from curate.models import catalog, fasttext
from curate.schema import text_buffers, verdict
from curate.stage import stage
from curate.stages import _thresholds

WRITES = {"lang": pa.string(), "lang_score": pa.float32()}
RULES = (("low_score", "lang_score", "min_score"),)  # reason, column, bound
BY_LANGUAGE = ("min_score",)  # only files set it


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str = "lid176"  # a model of `curate models`, or a path to a fastText .bin or .ftz
    thresholds: str = ""  # folder of YAML files, one per language, with `language_score`

    def __post_init__(self) -> None:
        _thresholds.check(self.thresholds, ["min_score"])


def columns_written(config: Config) -> dict[str, pa.DataType]:
    """With thresholds there is a verdict too."""
    return WRITES | (verdict("language_id") if config.thresholds else {})


def model_files(config: Config) -> list[str]:
    """The model and the files of thresholds, part of the fingerprint."""
    return [str(catalog.find(config.model)), *_thresholds.files_of(config)]


def load_model(config: Config, store: Path) -> fasttext.Model:
    """Convert the model once into the work store and map it."""
    return fasttext.load(fasttext.convert(catalog.find(config.model), store))


@stage(
    "language_id",
    version=1,
    config=Config,
    reads=["text"],
    writes=columns_written,
    load=load_model,
    files=model_files,
    scores=["lang_score"],
)
def language_id(batch: pa.RecordBatch, config: Config, model: fasttext.Model) -> pa.RecordBatch:
    """Add `lang` and `lang_score`, and with thresholds the verdict on the score."""
    from curate.kernels.fasttext import without_words

    data, offsets = text_buffers(batch["text"])  # a null reads as empty
    labels, scores = model.predict(data, offsets)
    unknown = without_words(data, offsets) | (labels < 0)
    languages = pa.array(model.labels, pa.string()).take(pa.array(labels, mask=unknown))
    batch = batch.append_column("lang", languages).append_column("lang_score", pa.array(scores, mask=unknown))
    if not config.thresholds:
        return batch
    rows = _thresholds.by_row(config.thresholds, languages, ["min_score"])
    least = rows.bounds["min_score"]
    low = ~rows.missing & (scores < least)
    reasons = np.select([rows.missing, low], [_thresholds.NO_THRESHOLDS, "low_score"], "")
    found = {
        "pass": pa.array(~(rows.missing | low)),
        "reason": pa.array(reasons, pa.string(), mask=reasons == ""),
        "value": pa.array(scores.astype(np.float64), mask=~low),
        "threshold": pa.array(least, mask=~low),
    }
    for column, array in found.items():
        batch = batch.append_column(f"language_id_{column}", array)
    return batch
