//! What people write beside what they ask for: why, who they are, and what it is about. All of it is kept, so all of it has
//! bounds.
//!
//! Each check gives the words back without the blanks around them, or says what is wrong with them; as it takes a `&str`,
//! it also is a `value_parser` of an argument.

/// Characters of a reason: what happened, in a few sentences.
pub const REASON_MAX: usize = 1_000;
/// Characters of who asks: a name, an address, a service account.
pub const ACTOR_MAX: usize = 200;
/// Characters of a key or a topic. What carries a stranger's word is cut off far below that.
pub const SUBJECT_MAX: usize = 500;

/// Why words are not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// There are none.
    #[error("the {0} is blank; say one of 1 to {1} characters")]
    Blank(&'static str, usize),
    /// There are too many.
    #[error("the {0} has more than {1} characters; say it shorter")]
    TooLong(&'static str, usize),
}

/// Why somebody asks for something: 1 to [`REASON_MAX`] characters.
///
/// # Errors
/// If it is blank, or too long.
pub fn reason(text: &str) -> Result<String, Error> {
    within("reason", text, REASON_MAX)
}

/// Who asks for something: 1 to [`ACTOR_MAX`] characters.
///
/// # Errors
/// If it is blank, or too long.
pub fn actor(text: &str) -> Result<String, Error> {
    within("actor", text, ACTOR_MAX)
}

/// What is meant, as an alert's key or topic: 1 to [`SUBJECT_MAX`] characters.
///
/// # Errors
/// If it is blank, or too long.
pub fn subject(text: &str) -> Result<String, Error> {
    within("key or topic", text, SUBJECT_MAX)
}

/// The text without what a terminal, a page, or a parser of lines would obey: controls, marks that turn the direction of what
/// follows, and what some take for the end of a line.
#[must_use]
pub fn harmless(text: &str) -> String {
    let is_turn = |letter: char| matches!(letter, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |letter: char| {
        if letter.is_control() || is_turn(letter) { letter.escape_default().to_string() } else { letter.into() }
    };
    text.chars().map(shown).collect()
}

/// The same of a text of several lines, which stay lines.
#[must_use]
pub fn harmless_lines(text: &str) -> String {
    text.split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

fn within(what: &'static str, text: &str, most: usize) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::Blank(what, most));
    }
    if text.chars().nth(most).is_some() {
        return Err(Error::TooLong(what, most));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_shown_as_it_is_written() {
        let text = "\u{1b}[31mred\nnext\u{202e}evil\u{2066} José 🏀";
        assert_eq!(harmless(text), "\\u{1b}[31mred\\nnext\\u{202e}evil\\u{2066} José 🏀");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(harmless_lines("a\u{1b}[31m\n\tb\u{202e}"), "a\\u{1b}[31m\n\\tb\\u{202e}");
    }

    #[test]
    fn words_are_neither_blank_nor_longer_than_their_bound() {
        assert_eq!(reason(" the vendor is down \n").as_deref(), Ok("the vendor is down"));
        assert_eq!(reason(" \t\n"), Err(Error::Blank("reason", REASON_MAX)));
        assert_eq!(reason(&"é".repeat(REASON_MAX)), Ok("é".repeat(REASON_MAX)));
        assert_eq!(reason(&"é".repeat(REASON_MAX + 1)), Err(Error::TooLong("reason", REASON_MAX)));
        assert_eq!(actor(""), Err(Error::Blank("actor", ACTOR_MAX)));
        assert_eq!(actor(&"a".repeat(ACTOR_MAX + 1)), Err(Error::TooLong("actor", ACTOR_MAX)));
        assert_eq!(subject(&"k".repeat(SUBJECT_MAX + 1)), Err(Error::TooLong("key or topic", SUBJECT_MAX)));
    }
}
