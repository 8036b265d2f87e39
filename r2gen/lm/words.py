"""A tokenizer whose tokens are the words of the training reports, as in R2Gen."""

from collections import Counter
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from r2gen.errors import UserError
from r2gen.lm.codecs import TokenizerJson
from r2gen.lm.tokenizer import BOS, EOS, PAD, UNKNOWN, ReportTokenizer

SPECIAL = [PAD, BOS, EOS, UNKNOWN]
AS_WORDS = Regex(rf"(?<!\S)({'|'.join(SPECIAL)})(?!\S)")  # in a text, where they are unknown words


def train_words(
    reports: Sequence[str], vocabulary_size: int, min_count: int, *, source: str = "training reports"
) -> ReportTokenizer:
    """A tokenizer with a token for each word that occurs at least `min_count` times, and at most `vocabulary_size` ids.

    Words are separated by white space, and decoding joins them by one space. Any other word is read as <unk>, which is
    never generated; their number is printed, with the `source` of the texts. Raises UserError if no word occurs so
    often.
    """
    counts = Counter(word for report in reports for word in report.split())
    frequent = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL]
    words = sorted(frequent, key=lambda word: (-counts[word], word))[: max(0, vocabulary_size - len(SPECIAL))]
    if not words:
        raise UserError(
            f"lm.vocabulary=words: no word of the training reports occurs at least lm.min_count={min_count} times, or "
            f"lm.vocabulary_size={vocabulary_size} has no place for it: lower the first or raise the second"
        )
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *words])}, unk_token=UNKNOWN))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizers.Replace(AS_WORDS, UNKNOWN)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    total = counts.total()
    unknown = total - sum(counts[word] for word in words)
    print(
        f"vocabulary: {len(words):,} words; {unknown:,} of {total:,} in the {source} ({unknown / total:.2%}) "
        f"have no token and are read as {UNKNOWN}",
        flush=True,
    )
    return ReportTokenizer(TokenizerJson(tokenizer), bos_id=1, eos_ids=(2,), pad_id=0)
