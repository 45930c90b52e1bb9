//! Memories as a person reads them in a terminal: safe, short and aligned.

use orchestra_memory::memory_core::{MemoryItem, Timestamp};

use crate::output::Style;

/// Widest id that a column of ids makes room for; a UUID has 36 characters.
const ID_WIDTH: usize = 36;
/// Widest speaker that a column of speakers makes room for.
const WHO_WIDTH: usize = 20;

/// A text that cannot move the cursor, change colours or ring bells: control characters and the
/// marks that turn the direction of writing become `\u{fffd}`; line breaks and tabs stay.
pub(crate) fn safe(text: &str) -> String {
    let hostile = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hostile(c) { '\u{fffd}' } else { c }).collect()
}

/// A safe text on one line.
pub(crate) fn one_line(text: &str) -> String {
    safe(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `width` characters, with an ellipsis where something was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(width.saturating_sub(1)).collect();
            format!("{}\u{2026}", kept.trim_end())
        }
    }
}

/// Padded with spaces to `width` characters.
pub(crate) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// A safe text broken between words into lines of at most `width` characters, each behind
/// `indent`. Line breaks of the text stay; a word that is longer than a line is broken.
pub(crate) fn wrapped(text: &str, indent: &str, width: usize) -> Vec<String> {
    let room = width.saturating_sub(indent.chars().count()).max(10);
    let mut lines = Vec::new();
    for paragraph in safe(text).lines() {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            if used > 0 && used + 1 + word.len() > room {
                lines.push(format!("{indent}{line}"));
                line.clear();
                used = 0;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            while used == 0 && word.len() > room {
                let rest = word.split_off(room);
                lines.push(format!("{indent}{}", word.iter().collect::<String>()));
                word = rest;
            }
            used += word.len();
            line.extend(word);
        }
        lines.push(format!("{indent}{line}").trim_end().to_owned());
    }
    lines
}

/// A time to the minute, in UTC.
pub(crate) fn when(time: Timestamp) -> String {
    time.to_string().chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// Who speaks, or whom it is about.
pub(crate) fn who(item: &MemoryItem) -> String {
    let of = item.user_id.as_ref().map(ToString::to_string);
    let of = of.or_else(|| item.agent_id.as_ref().map(ToString::to_string));
    let name = item.author.clone().or_else(|| item.role.map(|role| role.name().to_owned())).or(of);
    one_line(&name.unwrap_or_default())
}

/// One line an item: id, time, speaker, and as much of the text as the line holds.
pub(crate) fn table(items: &[MemoryItem], style: Style) -> Vec<String> {
    let widest = |width: usize, texts: &[String]| {
        texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).min(width)
    };
    let ids: Vec<_> = items.iter().map(|item| safe(item.id.as_str())).collect();
    let speakers: Vec<_> = items.iter().map(|item| cut(&who(item), WHO_WIDTH)).collect();
    let (id_width, who_width) = (widest(ID_WIDTH, &ids), widest(WHO_WIDTH, &speakers));
    items
        .iter()
        .zip(ids.iter().zip(&speakers))
        .map(|(item, (id, who))| {
            let head = id.chars().count().max(id_width) + 2 + 16 + 2 + who_width + 2;
            let room = style.width.saturating_sub(head).max(20);
            format!(
                "{}  {}  {}  {}",
                style.bold(&pad(id, id_width)),
                when(item.occurred_at),
                pad(who, who_width),
                cut(&one_line(item.content()), room)
            )
        })
        .collect()
}

/// An item as part of a conversation: a line with time, speaker and id, then the whole text.
pub(crate) fn turn(item: &MemoryItem, style: Style) -> Vec<String> {
    let mut head = format!("{}  {}", when(item.occurred_at), style.bold(&who(item)));
    let session = item.session_id.as_ref().map(|session| format!(", session {session}"));
    let facts = format!("({} {}{})", item.kind, item.id, session.unwrap_or_default());
    head.push_str("  ");
    head.push_str(&style.dim(&one_line(&facts)));
    let mut lines = vec![head];
    lines.extend(wrapped(item.content(), "  ", style.width));
    lines
}

/// Everything about an item, a line a field, then the text.
pub(crate) fn card(item: &MemoryItem, style: Style) -> Vec<String> {
    let mut fields: Vec<(&str, String)> = vec![("id", item.id.to_string())];
    let mut add = |name, value: Option<String>| {
        if let Some(value) = value {
            fields.push((name, value));
        }
    };
    add("user", item.user_id.as_ref().map(ToString::to_string));
    add("agent", item.agent_id.as_ref().map(ToString::to_string));
    add("session", item.session_id.as_ref().map(ToString::to_string));
    add("kind", Some(item.kind.to_string()));
    add("role", item.role.map(|role| role.name().to_owned()));
    add("author", item.author.clone());
    add("importance", item.importance.map(|importance| importance.to_string()));
    add("occurred", Some(item.occurred_at.to_string()));
    add("created", Some(item.created_at.to_string()));
    add("updated", Some(item.updated_at.to_string()));
    add("expires", item.expires_at.map(|time| time.to_string()));
    add("revision", item.revision.as_ref().map(ToString::to_string));
    for (key, value) in &item.metadata {
        add("metadata", Some(format!("{key} = {}", value.to_json())));
    }
    add("payload", item.payload.as_ref().map(ToString::to_string));
    for (space, vector) in &item.vectors {
        add("vector", Some(format!("{space}: {} components", vector.len())));
    }
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let room = style.width.saturating_sub(width + 2);
    let mut lines: Vec<_> = fields
        .iter()
        .map(|(name, value)| {
            format!("{}  {}", style.dim(&pad(name, width)), cut(&one_line(value), room))
        })
        .collect();
    lines.push(String::new());
    lines.extend(wrapped(item.content(), "", style.width));
    lines
}

/// A number of things, with thin grouping: `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 memory`, `2 memories`: the noun that fits the number.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestra_memory::memory_core::{MemoryId, UserId};

    fn item(id: &str, content: &str) -> MemoryItem {
        let at = Timestamp::parse("2025-02-09T18:04:46Z").unwrap();
        MemoryItem::new(MemoryId::new(id).unwrap(), content, at)
            .unwrap()
            .with_user(UserId::new("nora").unwrap())
    }

    const PLAIN: Style = Style { colour: false, width: 60 };

    #[test]
    fn a_memory_cannot_command_the_terminal() {
        assert_eq!(
            safe("a\u{1b}[31mb\u{7}\u{9b}c\u{202e}d\n\te"),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}d\n\te"
        );
        let hostile = item("m", "x\u{1b}]0;title\u{7}y");
        for lines in [
            table(std::slice::from_ref(&hostile), PLAIN),
            turn(&hostile, PLAIN),
            card(&hostile, PLAIN),
        ] {
            assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        }
    }

    #[test]
    fn lines_fit() {
        assert_eq!(wrapped("aaa bbb ccc ddd", "  ", 13), ["  aaa bbb ccc", "  ddd"]);
        assert_eq!(wrapped("one\n\ntwo", "", 20), ["one", "", "two"]);
        assert_eq!(wrapped("0123456789abcdef", "", 10), ["0123456789", "abcdef"]);
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello w", 5), "hell\u{2026}");
        let items = [item("a", &"word ".repeat(50)), item("longer", "short")];
        let lines = table(&items, PLAIN);
        assert_eq!(lines[1], "longer  2025-02-09 18:04  nora  short");
        assert!(lines[0].starts_with("a       2025-02-09 18:04  nora  word"));
        assert!(lines.iter().all(|line| line.chars().count() <= PLAIN.width), "{lines:?}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(1, "memory", "memories"), "1 memory");
        assert_eq!(count(2, "memory", "memories"), "2 memories");
    }
}
