//! Classes of characters: which are written without spaces, which are emoji, which belong to
//! a script that a stemmer reads. Block ranges are those of the Unicode character database.

use unicode_normalization::char::is_combining_mark;

/// What a character means to the splitting of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A letter or digit of a script that separates its words.
    Word,
    /// A character of a script that becomes overlapping pairs.
    Pair(PairScript),
    /// A combining mark or an invisible character that belongs to what precedes it.
    Extend,
    /// Everything else: punctuation, symbols, white space, controls.
    Other,
}

/// Families of scripts whose runs become pairs; a run ends where the family changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairScript {
    /// Han, kana, bopomofo and Hangul.
    EastAsian,
    /// Thai, Lao, Burmese and Khmer.
    SouthEastAsian,
}

/// The alphabets that accents are stripped from or that a stemmer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    Latin,
    Greek,
    Cyrillic,
    Arabic,
    Other,
}

/// The class of one character.
pub(crate) fn kind(c: char) -> Kind {
    if c.is_ascii() {
        return if c.is_ascii_alphanumeric() { Kind::Word } else { Kind::Other };
    }
    if is_apostrophe(c) {
        return Kind::Other;
    }
    if is_dropped(c) || is_combining_mark(c) {
        return Kind::Extend;
    }
    match pair_script(c) {
        Some(script) if c.is_alphanumeric() => Kind::Pair(script),
        _ if c.is_alphanumeric() => Kind::Word,
        _ => Kind::Other,
    }
}

/// Whether the character is one of the apostrophes that people and editors type.
pub(crate) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}' | '\u{2018}' | '\u{02BC}' | '\u{02B9}' | '\u{FF07}')
}

/// Characters inside words that carry no meaning for search: soft hyphen, joiners, direction
/// marks, the Arabic letter stretcher.
pub(crate) fn is_dropped(c: char) -> bool {
    matches!(
        c,
        '\u{00AD}' | '\u{0640}' | '\u{061C}' | '\u{200C}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}'
            | '\u{FE00}'..='\u{FE0F}'
    )
}

/// Whether a segment beginning with this character is an emoji.
pub(crate) fn is_emoji(c: char) -> bool {
    matches!(
        c,
        '\u{1F1E6}'..='\u{1F1FF}'
            | '\u{1F300}'..='\u{1F3FA}'
            | '\u{1F400}'..='\u{1FAFF}'
            | '\u{1F004}'
            | '\u{1F0CF}'
            | '\u{231A}'..='\u{231B}'
            | '\u{23E9}'..='\u{23FA}'
            | '\u{2600}'..='\u{27BF}'
            | '\u{2B05}'..='\u{2B07}'
            | '\u{2B1B}'..='\u{2B1C}'
            | '\u{2B50}'
            | '\u{2B55}'
    )
}

/// Parts of an emoji that do not tell it from its siblings: presentation and skin tone.
pub(crate) fn is_emoji_style(c: char) -> bool {
    matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}')
}

/// The family of a character that is written without spaces.
fn pair_script(c: char) -> Option<PairScript> {
    match c {
        '\u{1100}'..='\u{11FF}'
        | '\u{2E80}'..='\u{2FDF}'
        | '\u{3005}'..='\u{3007}'
        | '\u{3021}'..='\u{3029}'
        | '\u{3031}'..='\u{3035}'
        | '\u{303B}'..='\u{303C}'
        | '\u{3041}'..='\u{30FF}'
        | '\u{3105}'..='\u{318F}'
        | '\u{31A0}'..='\u{31BF}'
        | '\u{31F0}'..='\u{31FF}'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{A960}'..='\u{A97F}'
        | '\u{AC00}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{1B000}'..='\u{1B16F}'
        | '\u{20000}'..='\u{3FFFF}' => Some(PairScript::EastAsian),
        // Digits of these scripts separate like digits anywhere, so they are left out.
        '\u{0E50}'..='\u{0E59}'
        | '\u{0ED0}'..='\u{0ED9}'
        | '\u{1040}'..='\u{1049}'
        | '\u{1090}'..='\u{1099}'
        | '\u{17E0}'..='\u{17E9}' => None,
        '\u{0E00}'..='\u{0EFF}'
        | '\u{1000}'..='\u{109F}'
        | '\u{1780}'..='\u{17FF}'
        | '\u{A9E0}'..='\u{A9FF}'
        | '\u{AA60}'..='\u{AA7F}' => Some(PairScript::SouthEastAsian),
        _ => None,
    }
}

/// The alphabet of a letter.
pub(crate) fn alphabet(c: char) -> Alphabet {
    match c {
        'a'..='z'
        | 'A'..='Z'
        | '\u{00AA}'
        | '\u{00BA}'
        | '\u{00C0}'..='\u{00D6}'
        | '\u{00D8}'..='\u{00F6}'
        | '\u{00F8}'..='\u{02AF}'
        | '\u{1E00}'..='\u{1EFF}'
        | '\u{2C60}'..='\u{2C7F}'
        | '\u{A720}'..='\u{A7FF}' => Alphabet::Latin,
        '\u{0370}'..='\u{03FF}' | '\u{1F00}'..='\u{1FFF}' => Alphabet::Greek,
        '\u{0400}'..='\u{052F}' | '\u{1C80}'..='\u{1C8F}' | '\u{A640}'..='\u{A69F}' => {
            Alphabet::Cyrillic
        }
        '\u{0600}'..='\u{06FF}' | '\u{0750}'..='\u{077F}' | '\u{08A0}'..='\u{08FF}' => {
            Alphabet::Arabic
        }
        _ => Alphabet::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(kind('a'), Kind::Word);
        assert_eq!(kind('7'), Kind::Word);
        assert_eq!(kind('é'), Kind::Word);
        assert_eq!(kind('\u{0301}'), Kind::Extend);
        assert_eq!(kind('\u{200D}'), Kind::Extend);
        assert_eq!(kind('漢'), Kind::Pair(PairScript::EastAsian));
        assert_eq!(kind('ー'), Kind::Pair(PairScript::EastAsian));
        assert_eq!(kind('한'), Kind::Pair(PairScript::EastAsian));
        assert_eq!(kind('ก'), Kind::Pair(PairScript::SouthEastAsian));
        assert_eq!(kind('\u{0E34}'), Kind::Extend);
        assert_eq!(kind('๗'), Kind::Word);
        assert_eq!(kind('。'), Kind::Other);
        assert_eq!(kind('\0'), Kind::Other);
        assert_eq!(kind('’'), Kind::Other);
    }

    #[test]
    fn emoji_are_told_from_symbols() {
        assert!(is_emoji('👍') && is_emoji('❤') && is_emoji('🇩'));
        assert!(!is_emoji('€') && !is_emoji('©') && !is_emoji('a'));
    }
}
