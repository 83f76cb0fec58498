//! What a person with gloves sees from two metres: a word in letters five lines high, green or red.
//! Colours and the bell are for terminals alone.

use std::io::IsTerminal;

/// What is shown large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The device is good.
    Ok,
    /// The device was good before.
    Done,
    /// Look at it.
    Stop,
}

/// How a screen shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A terminal with colours.
    Colour,
    /// A terminal whose user does not want any (<https://no-color.org>), or that has none.
    Terminal,
    /// A file or a pipe.
    Plain,
}

impl Screen {
    /// What standard output is.
    pub(crate) fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match std::io::stdout().is_terminal() {
            false => Self::Plain,
            true if is_set("NO_COLOR") || is_dumb => Self::Terminal,
            true => Self::Colour,
        }
    }

    /// The sign, then what is to be said about it.
    pub(crate) fn show(self, sign: Sign, about: &str) -> String {
        let (letters, colour) = match sign {
            Sign::Ok => (OK, 2),
            Sign::Done => (DONE, 3),
            Sign::Stop => (STOP, 1),
        };
        let bell = if sign == Sign::Stop && self != Self::Plain { "\x07" } else { "" };
        let mut text = format!("\n{bell}");
        for row in letters {
            text.push_str("  ");
            match self {
                Self::Terminal | Self::Plain => text.push_str(row.trim_end()),
                // A letter's dot is a block of colour, and still a letter where colours are lost.
                Self::Colour => {
                    for dots in row.split_inclusive(' ') {
                        let block = dots.trim_end();
                        if !block.is_empty() {
                            text.push_str(&format!("\x1b[3{colour};4{colour}m{block}\x1b[0m"));
                        }
                        text.push_str(&dots[block.len()..]);
                    }
                }
            }
            text.push('\n');
        }
        text.push('\n');
        for line in about.lines() {
            text.push_str(&format!("  {line}\n"));
        }
        text.push('\n');
        text
    }
}

const OK: [&str; 5] = [
    " #######   ##    ##",
    "##     ##  ##  ##  ",
    "##     ##  ####    ",
    "##     ##  ##  ##  ",
    " #######   ##    ##",
];

const DONE: [&str; 5] = [
    "#######    #######   ##     ##  ########",
    "##    ##  ##     ##  ####   ##  ##      ",
    "##    ##  ##     ##  ##  ## ##  ######  ",
    "##    ##  ##     ##  ##   ####  ##      ",
    "#######    #######   ##     ##  ########",
];

const STOP: [&str; 5] = [
    " #######  ########   #######   ####### ",
    "##           ##     ##     ##  ##    ##",
    " ######      ##     ##     ##  ####### ",
    "      ##     ##     ##     ##  ##      ",
    "#######      ##      #######   ##      ",
];

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn a_pipe_gets_no_colours() {
        assert_snapshot!(Screen::Plain.show(Sign::Ok, "rfid-1\nSN1"), @r"

           #######   ##    ##
          ##     ##  ##  ##
          ##     ##  ####
          ##     ##  ##  ##
           #######   ##    ##

          rfid-1
          SN1
        ");
        for sign in [Sign::Ok, Sign::Done, Sign::Stop] {
            assert!(!Screen::Plain.show(sign, "x").contains(['\x1b', '\x07']));
            assert!(!Screen::Terminal.show(sign, "x").contains('\x1b'));
        }
    }

    #[test]
    fn a_terminal_shows_green_and_red_and_rings() {
        let (ok, stop) = (Screen::Colour.show(Sign::Ok, ""), Screen::Colour.show(Sign::Stop, ""));
        assert!(ok.contains("\x1b[32;42m##\x1b[0m") && !ok.contains('\x07'), "{ok:?}");
        assert!(stop.contains("\x1b[31;41m") && stop.contains('\x07'), "{stop:?}");
        // The same picture, colours aside.
        let bare = |text: &str, colour| {
            let text =
                text.replace("\x1b[0m", "").replace(&format!("\x1b[3{colour};4{colour}m"), "");
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        };
        let plain = Screen::Plain.show(Sign::Ok, "");
        assert_eq!(bare(&ok, 2), bare(&plain, 2));
    }
}
