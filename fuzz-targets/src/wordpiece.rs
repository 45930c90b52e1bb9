//! The tokenizer of the local embedding model.

use std::sync::LazyLock;

use memory_embed::minilm::WordPiece;

/// A small vocabulary with pieces of one to several characters, some of them accented or Chinese.
const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\ne\ntea\n##a\n##b\n##ing\n##s\nthe\n\
                          green\n!\n,\n[\n]\n北\n京\n##é\nwalk\n##ed\n1\n##2\nß\nσ";

static PIECES: LazyLock<WordPiece> = LazyLock::new(|| {
    WordPiece::from_vocabulary(VOCABULARY.as_bytes()).expect("a valid vocabulary")
});

/// A text has tokens of the vocabulary, no more than it has characters after decomposition, the same
/// each time; two texts with a line break between them have the tokens of the one and of the other.
/// Any bytes are refused as a vocabulary or tokenize by it.
///
/// # Panics
/// Where an invariant is broken.
pub fn wordpiece(data: &[u8]) {
    if let Ok(pieces) = WordPiece::from_vocabulary(data) {
        assert!(!pieces.is_empty());
        check(&pieces, "the green tea [SEP] ß 北京");
    }
    let text = String::from_utf8_lossy(data);
    check(&PIECES, &text);
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (before, behind) = text.split_at(middle);
    let mut parts = check(&PIECES, before);
    parts.extend(check(&PIECES, behind));
    assert_eq!(check(&PIECES, &format!("{before}\n{behind}")), parts, "the tokens of both");
}

fn check(pieces: &WordPiece, text: &str) -> Vec<u32> {
    let tokens = pieces.encode(text);
    let most = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    assert!(tokens.iter().all(|token| *token < most), "a token beyond the vocabulary");
    // No character decomposes into more than eighteen.
    assert!(tokens.len() <= text.chars().count() * 18);
    assert_eq!(pieces.encode(text), tokens);
    tokens
}
