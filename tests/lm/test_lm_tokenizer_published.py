"""Every published tokenizer format gives the ids and texts of its family's own code."""

import base64
import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from golden_checkpoints import FAMILIES, PUBLISHED, golden, needs_published
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer
from transformers import LlamaTokenizer, T5Tokenizer

from r2gen.errors import UserError
from r2gen.lm import read_tokenizer
from r2gen.lm.codecs import SENTENCES, SentencePiece, Tiktoken, TokenizerJson
from r2gen.lm.families import PUBLISHED as PUBLISHED_FORMATS
from r2gen.lm.families.chatglm import GLM4_TOKENIZER
from r2gen.lm.families.qwen import TOKENIZER
from r2gen.lm.tokenizer_files import read_codec

pytestmark = needs_published
LITERAL = "<s>literal</s> <unk>"
LATIN = [b"a", b"\xcc\x8a", b"\xc3\xa5", b"\xc3", b"\xa5", b"\xcc", b"\x8a"]  # a, the ring above it, å, bytes


def copy(family: str, folder: Path) -> Path:
    """The tokenizer files of a family, without weights."""
    return shutil.copytree(PUBLISHED / family, folder / family, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))


def test_every_published_format_has_a_golden_checkpoint() -> None:
    model_types = {json.loads((PUBLISHED / name / "config.json").read_text())["model_type"] for name in FAMILIES}
    assert model_types >= PUBLISHED_FORMATS


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_texts_are_those_of_the_family(family: str) -> None:
    tokenizer = read_tokenizer(PUBLISHED / family)
    texts = golden(family)["texts"]
    assert len(texts) >= 12
    for entry in texts:
        marked, plain = tokenizer.codec.encode_with_special_tokens(entry["text"]), tokenizer.encode(entry["text"])
        if entry["text"] == LITERAL:  # most families take these names for special tokens, as we do in templates only
            assert entry["ids"] in (marked, plain)
            continue
        assert marked == plain == entry["ids"]
        assert tokenizer.decode(entry["ids"]) == entry["decoded"]


@pytest.mark.parametrize("family", FAMILIES)
def test_special_ids_are_those_of_the_family(family: str) -> None:
    tokenizer, facts = read_tokenizer(PUBLISHED / family), golden(family)
    assert set(tokenizer.eos_ids) == set(facts["eos"])
    assert tokenizer.pad_id == facts["pad"]
    names = {name: i for name, i in facts.get("commands", {}).items() if name not in ("<bos>", "<eos>", "<pad>")}
    assert {name: tokenizer.codec.id_of(name) for name in names} == names
    assert set(names.values()) <= tokenizer.codec.special_ids


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_in_a_report_is_a_special_token(family: str) -> None:
    codec = read_tokenizer(PUBLISHED / family).codec
    names = [
        *golden(family).get("commands", {}),
        "</s>",
        "<s>",
        "<|endoftext|>",
        "<|im_end|>",
        "<|user|>",
        "<eoa>",
        "<start_of_turn>",
        "<|eot_id|>",
    ]
    names = [name for name in names if codec.id_of(name) is not None]
    report = f"No {' '.join(names)} effusion{''.join(names)}."
    assert names
    ids = codec.encode(report)
    assert not codec.special_ids - {codec.unknown_id} & set(ids)
    assert codec.special_ids & set(codec.encode_with_special_tokens(report))
    if codec.unknown_id not in ids:
        assert codec.decode(ids) == report


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_beyond_the_vocabulary_are_ignored_in_decoding(family: str) -> None:
    codec = read_tokenizer(PUBLISHED / family).codec
    ids = codec.encode("The heart size")
    assert codec.decode([*ids, codec.size + 7, 100_000, -1]) == codec.decode(ids) == "The heart size"


def test_the_name_of_a_special_token_of_chatglm_is_text_in_a_report() -> None:
    codec = read_codec(PUBLISHED / "chatglm3")
    plain = SentencePieceProcessor(model_file=str(PUBLISHED / "chatglm3/tokenizer.model"))
    for text in ("a sop of <|user|> [gMASK]", "sop"):
        assert codec.encode(text) == plain.encode(text)
        assert max(codec.encode(text)) < plain.get_piece_size() <= codec.id_of("sop")


def test_the_eos_token_of_internlm_is_text_in_a_report() -> None:
    """Without `codecs._make_control_pieces` sentencepiece recognises it."""
    codec = read_codec(PUBLISHED / "internlm")
    plain = SentencePieceProcessor(model_file=str(PUBLISHED / "internlm/tokenizer.model"))
    assert codec.id_of("<eoa>") in plain.encode("no <eoa> here")
    assert codec.id_of("<eoa>") not in codec.encode("no <eoa> here")
    assert codec.decode(codec.encode("no <eoa> here")) == "no <eoa> here"
    for entry in golden("internlm")["texts"][:10]:
        assert codec.encode(entry["text"]) == plain.encode(entry["text"])


@pytest.mark.parametrize("family", ["internlm2", "yi", "mistral"])
def test_the_dummy_prefix_is_that_of_the_file(family: str) -> None:
    """InternLM2 and Yi have none, Mistral has one; transformers 5.23 treats all of them alike."""
    file = PUBLISHED / family / "tokenizer.model"
    codec, plain = read_codec(PUBLISHED / family), SentencePieceProcessor(model_file=str(file))
    sentences = (*SENTENCES, "  two spaces at the start")
    ours = [codec.encode(sentence) for sentence in sentences]
    assert ours == [plain.encode(sentence) for sentence in sentences]
    theirs = LlamaTokenizer.from_pretrained(file.parent)
    assert [theirs.encode(sentence, add_special_tokens=False) for sentence in sentences] != ours


def test_a_leading_space_round_trips_without_a_dummy_prefix() -> None:
    codec = read_codec(PUBLISHED / "internlm2")
    for text in ("The heart", " The heart", "  The heart "):
        assert codec.decode(codec.encode(text)) == text
    assert codec.encode("The heart") != codec.encode(" The heart")


def test_only_invalid_bytes_are_replaced() -> None:
    codec = read_codec(PUBLISHED / "internlm2")
    heart = codec.encode("心")
    broken = [*codec.encode("a"), heart[0], *heart, heart[0], *codec.encode("b")]
    assert codec.decode(broken) == "a\ufffd心\ufffdb"
    assert LlamaTokenizer.from_pretrained(PUBLISHED / "internlm2").decode(broken) != codec.decode(broken)


@pytest.mark.parametrize("family", ["t5", "flan_t5"])
def test_unknown_text_stays_visible_with_t5(family: str) -> None:
    codec = read_codec(PUBLISHED / family)
    ids = codec.encode("心 heart")
    assert codec.unknown_id in ids
    assert "\u2047" in codec.decode(ids)
    assert codec.decode([1, *codec.encode("heart"), 0]) == "heart"


def test_a_tiktoken_file_is_distinguished_from_a_sentencepiece_file_by_its_content() -> None:
    assert isinstance(read_codec(PUBLISHED / "glm4"), Tiktoken)
    assert isinstance(read_codec(PUBLISHED / "chatglm3"), SentencePiece)
    with pytest.raises(UserError, match=r"tokenizer\.model is not a sentencepiece file"):
        SentencePiece(PUBLISHED / "glm4/tokenizer.model")


def test_glm4_keeps_digits_together_and_qwen_does_not(tmp_path: Path) -> None:
    ranks = [bytes([i]) for i in range(256)] + [b"12", b"123", b" 12"]
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks))
    for name, kind in (("tokenizer.model", GLM4_TOKENIZER), ("qwen.tiktoken", TOKENIZER)):
        (tmp_path / name).write_text(lines)
        codec = Tiktoken.read(tmp_path / name, kind)
        assert codec.encode("1234") == ([257, ord("4")] if name == "tokenizer.model" else [*b"1234"])


def test_qwen_composes_characters_and_glm4_does_not(tmp_path: Path) -> None:
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(LATIN))
    for name in ("tokenizer.model", "qwen.tiktoken"):
        (tmp_path / name).write_text(lines)
    apart = unicodedata.normalize("NFD", "å")
    assert Tiktoken.read(tmp_path / "qwen.tiktoken", TOKENIZER).encode(apart) == [2]
    assert Tiktoken.read(tmp_path / "tokenizer.model", GLM4_TOKENIZER).encode(apart) == [0, 1]
    codec = read_codec(PUBLISHED / "qwen")
    text = unicodedata.normalize("NFD", "Übergröße café")
    assert codec.encode(text) == codec.encode(unicodedata.normalize("NFC", text))
    assert codec.encode_with_special_tokens(text + "<|im_end|>")[:-1] == codec.encode(text)


def test_qwen_needs_no_file_with_special_tokens(tmp_path: Path) -> None:
    """Only the Python code of Qwen v1 names its special tokens; their ids follow those of the file."""
    for name in ("qwen.tiktoken", "config.json"):
        shutil.copy(PUBLISHED / "qwen" / name, tmp_path)
    tokenizer = read_tokenizer(tmp_path, stop=["<|im_end|>"])
    size = len((tmp_path / "qwen.tiktoken").read_text().splitlines())
    assert (tokenizer.eos_ids, tokenizer.pad_id, tokenizer.bos_id) == ((size + 2, size), size, None)
    assert tokenizer.codec.id_of("<|extra_204|>") == size + 207


def test_chatglm_has_only_the_special_tokens_with_rows_in_the_embedding_matrix(tmp_path: Path) -> None:
    folder = copy("chatglm3", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"padded_vocab_size": 425}))
    codec = read_codec(folder)
    assert codec.id_of("eop") == 424
    assert codec.id_of("<|user|>") is None


def test_two_tiktoken_files_must_agree(tmp_path: Path) -> None:
    folder = copy("glm4", tmp_path)
    shutil.copy(PUBLISHED / "glm4_hf/tokenizer.json", folder)
    with pytest.raises(UserError, match=r"tokenizer\.model and tokenizer\.json .* differently"):
        read_codec(folder)


def test_a_t5_whose_two_files_agree_is_read(tmp_path: Path) -> None:
    folder = copy("t5", tmp_path)
    T5Tokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    shutil.copy(tmp_path / "saved/tokenizer.json", folder)
    assert isinstance(read_codec(folder), SentencePiece)


def test_special_tokens_include_white_space_if_the_files_say_so(tmp_path: Path) -> None:
    """Phi-3's special tokens have rstrip: the line break after them is not a token."""
    folder = copy("phi3", tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = {"500": {"content": "<|user|>", "rstrip": True}, "501": {"content": "<|end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": tokens}))
    codec = read_codec(folder)
    ids = codec.encode_with_special_tokens("<|user|>\n heart<|end|>\n")
    assert ids == [500, *codec.encode("heart"), 501, *codec.encode("\n")]


def test_a_tokenizer_that_does_not_round_trip_is_refused(tmp_path: Path) -> None:
    folder = copy("llama3", tmp_path)
    written = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(written | {"normalizer": {"type": "Lowercase"}}))
    with pytest.raises(UserError, match=r"decodes 'The heart size.*' to 'the heart size"):
        read_tokenizer(folder)


@pytest.mark.parametrize(("key", "token", "message"), [("eos", "<eoa>", "eos='<eoa>' is not one token")])
def test_special_tokens_can_be_named(key: str, token: str, message: str) -> None:
    tokenizer = read_tokenizer(PUBLISHED / "yi", special_tokens={"eos": "<|im_end|>", "pad": 5, "bos": None})
    assert (tokenizer.eos_id, tokenizer.eos_ids, tokenizer.pad_id, tokenizer.bos_id) == (6, (6, 2), 5, 1)
    with pytest.raises(UserError, match=message):
        read_tokenizer(PUBLISHED / "yi", special_tokens={key: token})


def test_an_unusual_tokenizer_json_still_decodes_without_special_tokens() -> None:
    codec = TokenizerJson(Tokenizer.from_file(str(PUBLISHED / "qwen2/tokenizer.json")))
    assert codec.decode([*codec.encode("heart"), codec.id_of("<|im_end|>")]) == "heart"
