"""transformers 5.17 makes a tokenizer of unigrams from a GGUF file of Gemma: it is one that merges pairs again."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from r2gen.lm.gguf import _merge_pairs

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["<pad>", "<unk>", "\t", "▁▁", *BYTES, "he", "th", "the", "▁the", "▁", "t", "h", "e"]


def test_pairs_are_merged_in_the_order_of_the_vocabulary(tmp_path: Path) -> None:
    vocabulary = [("\t" if piece == "<0x09>" else piece, -1.0) for piece in PIECES]  # as transformers 5.17 writes it
    file = tmp_path / "tokenizer.json"
    Tokenizer(Unigram(vocabulary, unk_id=1, byte_fallback=True)).save(str(file))
    _merge_pairs(file)
    merging = Tokenizer.from_file(str(file))
    assert merging.encode("▁the").tokens == ["▁the"]
    assert merging.encode("thhe").tokens == ["th", "he"]
    assert merging.encode("th").ids == [PIECES.index("th")]
    assert merging.encode("▁▁").ids == [PIECES.index("▁▁")]
    assert merging.encode("é").ids == [PIECES.index("<0xC3>"), PIECES.index("<0xA9>")]
    assert merging.token_to_id("\t") == 2
    assert merging.token_to_id("<0x09>") == PIECES.index("<0x09>")


def test_a_tokenizer_that_merges_pairs_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"model": {"type": "BPE"}}), encoding="utf-8")
    _merge_pairs(file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"model": {"type": "BPE"}}
