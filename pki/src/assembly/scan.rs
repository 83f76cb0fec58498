//! What a barcode scanner, or a person at a keyboard, sends as one line.

use crate::ledger::{Reason, WordsError};
use crate::name::{HardwareSerial, LONGEST, NameError};

/// What may be scanned or typed beside serial numbers.
pub const COMMANDS: &str = "`reprint` prints the last label again, `reissue REASON` issues the next \
                            device again, `quit` ends";

/// What people type who look for a command, and no serial number.
const LOST: [&str; 18] = [
    "?", "abort", "back", "bye", "cancel", "commands", "end", "exit", "h", "help", "info",
    "logout", "menu", "q", "status", "stop", "undo", "usage",
];

/// As many bytes as any command has, with room.
const LONGEST_LINE: usize = 1024;

/// A line that was scanned or typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// Nothing: only Enter was pressed.
    Nothing,
    /// `quit`: the shift is over.
    Quit,
    /// `reprint`: the last label once more.
    Reprint,
    /// `reissue REASON`: the serial number scanned next gets another certificate.
    Reissue(Reason),
    /// A device's serial number.
    Serial(HardwareSerial),
}

/// Why a line is no scan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Two scans that ran together, or another kind of code.
    #[error("the line is too long for a serial number, {LONGEST} characters are the most")]
    TooLong,
    /// Bytes that are not text.
    #[error("the line is not UTF-8 text")]
    NotText,
    /// `reissue` without a reason, or with one that the ledger cannot have.
    #[error("`reissue` needs a reason, such as `reissue lost card`")]
    Reason(#[from] WordsError),
    /// A word that looks for a command.
    #[error("`{word}` is no serial number; the commands are: {COMMANDS}")]
    Lost {
        /// The word.
        word: String,
    },
    /// The text is no serial number.
    #[error(transparent)]
    Serial(#[from] NameError),
}

impl Scan {
    /// Reads a line, with or without its end. Blanks and tabs around it are the scanner's, which can be
    /// set to send one after each code; `quit`, `reprint` and `reissue` are commands, in capitals too.
    pub fn parse(line: &[u8]) -> Result<Self, ScanError> {
        let line = line.trim_ascii();
        let text = match str::from_utf8(line) {
            _ if line.len() > LONGEST_LINE => return Err(ScanError::TooLong),
            Ok(text) => text,
            Err(_) => return Err(ScanError::NotText),
        };
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        if first.eq_ignore_ascii_case("reissue") {
            return Ok(Self::Reissue(rest.parse()?));
        }
        match text {
            "" => Ok(Self::Nothing),
            command if command.eq_ignore_ascii_case("quit") => Ok(Self::Quit),
            command if command.eq_ignore_ascii_case("reprint") => Ok(Self::Reprint),
            // Never a device, whatever pattern the station has.
            word if is_lost(word) => Err(ScanError::Lost { word: word.to_owned() }),
            serial => match serial.parse() {
                Ok(serial) => Ok(Self::Serial(serial)),
                Err(NameError::TooLong { .. }) => Err(ScanError::TooLong),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// As in `help`, `--help` and `:q`.
fn is_lost(word: &str) -> bool {
    let bare = word.trim_start_matches(['-', '/', ':']);
    LOST.iter().any(|lost| bare.eq_ignore_ascii_case(lost))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn refusal(line: &[u8]) -> ScanError {
        Scan::parse(line).unwrap_err()
    }

    #[test]
    fn a_serial_number_is_scanned_whatever_the_scanner_sends_around_it() {
        let serial = Scan::Serial("SN 0001".parse().unwrap());
        for line in ["SN 0001", "SN 0001\r\n", "  SN 0001\t\r\n", "SN 0001 \n"] {
            assert_eq!(Scan::parse(line.as_bytes()).unwrap(), serial);
        }
        assert_eq!(Scan::parse(b" \r\n").unwrap(), Scan::Nothing);
        assert_eq!(Scan::parse(b"QUIT\n").unwrap(), Scan::Quit);
        assert_eq!(Scan::parse(b"Reprint\n").unwrap(), Scan::Reprint);
    }

    #[test]
    fn a_reissue_has_its_reason() {
        let reason = "lost card".parse().unwrap();
        assert_eq!(Scan::parse(b"REISSUE lost card\r\n").unwrap(), Scan::Reissue(reason));
        assert_snapshot!(
            refusal(b"reissue\n"),
            @"`reissue` needs a reason, such as `reissue lost card`"
        );
        refusal(&[&b"reissue "[..], &[b'x'; 500]].concat());
        // Another word that begins so is a serial number.
        Scan::parse(b"reissued").unwrap();
    }

    #[test]
    fn a_word_that_looks_for_a_command_is_told_the_commands_and_is_no_device() {
        assert_snapshot!(
            refusal(b"help\n"),
            @"`help` is no serial number; the commands are: `reprint` prints the last label again, `reissue REASON` issues the next device again, `quit` ends"
        );
        for word in ["?", "Exit", "--help", "-h", "/?", ":q", "STOP"] {
            assert!(matches!(refusal(word.as_bytes()), ScanError::Lost { .. }), "{word}");
        }
        Scan::parse(b"H1").unwrap();
    }

    #[test]
    fn noise_is_refused_with_what_is_wrong() {
        assert_snapshot!(
            refusal(b"SN\x1b[A1\n"),
            @r"hardware serial number `SN\u{1b}[A1` has the character `\u{1b}`, allowed are A-Z a-z 0-9 space ' ( ) + , - . / : ="
        );
        assert_snapshot!(refusal(b"\xff\xfe\n"), @"the line is not UTF-8 text");
        let long = [b'1'; 5000];
        assert_snapshot!(refusal(&long), @"the line is too long for a serial number, 64 characters are the most");
        assert_eq!(refusal(&long[..65]), ScanError::TooLong);
        assert_eq!(refusal(&[0xff; 5000]), ScanError::TooLong);
        refusal(b"\0");
    }
}
