"""A tokenizer whose tokens are the words of the training reports, as in R2Gen."""

from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from r2gen.errors import UserError
from r2gen.lm.codecs import TokenizerJson
from r2gen.lm.tokenizer import BOS, EOS, PAD, UNKNOWN, ReportTokenizer


def train_words(reports: Sequence[str], vocabulary_size: int, min_count: int) -> ReportTokenizer:
    """A tokenizer with a token for each word that occurs at least `min_count` times, at most `vocabulary_size` ids.

    Words are separated by white space, and decoding joins them by one space. Any other word is read as <unk>, which is
    never generated; their number is printed. Raises UserError if no word occurs so often.
    """
    counts = Counter(word for report in reports for word in report.split())
    special = [PAD, BOS, EOS, UNKNOWN]
    if vocabulary_size <= len(special) or max(counts.values(), default=0) < min_count:
        raise UserError(
            f"lm.vocabulary=words: no word of the training reports occurs at least lm.min_count={min_count} times, or "
            f"lm.vocabulary_size={vocabulary_size} has no place for it: lower the first or raise the second"
        )
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary_size, min_frequency=min_count, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(reports, trainer)
    vocabulary = tokenizer.get_vocab().keys() - set(special)
    unknown = sum(count for word, count in counts.items() if word not in vocabulary)
    print(
        f"vocabulary: {len(vocabulary):,} words; {unknown:,} of {counts.total():,} in the training reports "
        f"({unknown / counts.total():.2%}) have no token and are read as {UNKNOWN}",
        flush=True,
    )
    return ReportTokenizer(TokenizerJson(tokenizer), bos_id=1, eos_ids=(2,), pad_id=0)
