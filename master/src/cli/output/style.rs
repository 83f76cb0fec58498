//! Colours, and what a terminal is protected from: text of a minion's must not move the operator's cursor.

use std::borrow::Cow;

/// How to write for where it goes.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cli) struct Style {
    pub(super) colours: bool,
    pub(super) is_terminal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
    Dim,
}

impl Style {
    /// As on a terminal with colours.
    #[cfg(test)]
    pub(in crate::cli) const TERMINAL: Self = Self { colours: true, is_terminal: true };

    /// The text in a colour, if there are colours.
    pub(in crate::cli) fn paint(self, colour: Colour, text: &str) -> String {
        let text = self.clean(text);
        if !self.colours || text.is_empty() {
            return text.into_owned();
        }
        let code = match colour {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Cyan => "36",
            Colour::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The text; for a terminal, control characters are shown as escapes.
    pub(in crate::cli) fn clean(self, text: &str) -> Cow<'_, str> {
        let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        if !self.is_terminal || !text.contains(is_harmful) {
            return Cow::Borrowed(text);
        }
        let mut clean = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            if is_harmful(c) {
                clean.extend(c.escape_default());
            } else {
                clean.push(c);
            }
        }
        Cow::Owned(clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minion_cannot_move_the_operators_cursor() {
        let terminal = Style { colours: false, is_terminal: true };
        assert_eq!(terminal.clean("a\x1b[2Jb\n\tc\r"), "a\\u{1b}[2Jb\n\tc\\r");
        assert_eq!(Style::default().clean("a\x1b[2J"), "a\x1b[2J");
    }
}
