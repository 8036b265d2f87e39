"""transformers 5.17 makes a tokenizer of unigrams from a GGUF file of Gemma: it is one that merges pairs again."""

from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram

from r2gen.lm.gguf import _merge_pairs

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["<pad>", "<unk>", "\t", "▁▁", *BYTES, "he", "th", "the", "▁the", "▁", "t", "h", "e"]


def test_pairs_are_merged_in_the_order_of_the_vocabulary() -> None:
    vocabulary = [("\t" if piece == "<0x09>" else piece, -1.0) for piece in PIECES]  # as transformers 5.17 writes it
    merging = Tokenizer(Unigram(vocabulary, unk_id=1, byte_fallback=True))
    _merge_pairs(merging)
    assert merging.encode("▁the").tokens == ["▁the"]
    assert merging.encode("thhe").tokens == ["th", "he"]
    assert merging.encode("th").ids == [PIECES.index("th")]
    assert merging.encode("▁▁").ids == [PIECES.index("▁▁")]
    assert merging.encode("é").ids == [PIECES.index("<0xC3>"), PIECES.index("<0xA9>")]
    assert merging.token_to_id("\t") == 2
    assert merging.token_to_id("<0x09>") == PIECES.index("<0x09>")


def test_a_tokenizer_that_merges_pairs_stays_as_it_is() -> None:
    merging = Tokenizer(BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    before = merging.to_str()
    _merge_pairs(merging)
    assert merging.to_str() == before
