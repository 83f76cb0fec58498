//! `drover-enrol station`: the prompt loop of an assembly line, for a barcode scanner and a person
//! with gloves. Scan a serial number, see OK or what is wrong, next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use drover_pki::assembly::{COMMANDS, OutPath, Scan};
use drover_pki::file::FileError;
use drover_pki::ledger::Reason;
use drover_pki::manifest::ManifestEntry;
use drover_pki::station::{Issued, KeySource, StationError};
use drover_pki::{HardwareSerial, MinionId};
use jiff::Timestamp;

use crate::arguments::line::StationLoop;
use crate::failure::{Failure, with_causes};
use crate::input::{self, Input};
use crate::line::{self, Found, Line, Order};
use crate::screen::{Screen, Sign};
use crate::show::devices;

pub(crate) fn station(arguments: StationLoop, now: Timestamp) -> Result<(), Failure> {
    let StationLoop { line: common, card } = arguments;
    let settings = common.settings()?;
    if settings.id_template.is_none() {
        return Err(Failure::no_template(&common.station));
    }
    let place = if card { Place::Card(common.card()?) } else { Place::Each(common.out.clone()) };
    let directory = common.station.clone();
    let line = Line::open(common, settings, now)?;
    // Before the first prompt: whoever scans after it is heard.
    let inputs = input::listen().map_err(Failure::signals)?;

    let mut shift = Shift {
        line,
        place,
        screen: Screen::of_stdout(),
        last: None,
        reissue: None,
        count: Count::default(),
    };
    shift.welcome()?;
    loop {
        shift.prompt()?;
        match inputs.recv() {
            Ok(Input::Line(scanned)) => match Scan::parse(&scanned) {
                Ok(Scan::Nothing) => {}
                Ok(Scan::Quit) => break,
                Ok(Scan::Reprint) => shift.reprint()?,
                Ok(Scan::Reissue(reason)) => shift.reissue(reason)?,
                Ok(Scan::Serial(serial)) => shift.device(serial)?,
                Err(error) => {
                    let about = format!("{}\nscan again", with_causes(&error));
                    shift.stop(&about)?;
                }
            },
            Ok(Input::End) | Err(_) => break,
            Ok(Input::Failed(error)) => return Err(Failure::input(error)),
        }
    }
    shift.end(&directory)
}

/// Where bundles go.
enum Place {
    /// Each into a directory of its own.
    Each(OutPath),
    /// All into this one, on a card that is changed.
    Card(PathBuf),
}

impl Place {
    fn of(&self, id: &MinionId, serial: &HardwareSerial) -> PathBuf {
        match self {
            Self::Each(out) => out.of(id, serial),
            Self::Card(path) => path.clone(),
        }
    }
}

#[derive(Default)]
struct Count {
    issued: usize,
    reissued: usize,
    finished: usize,
    done_before: usize,
    refused: usize,
}

struct Shift {
    line: Line,
    place: Place,
    screen: Screen,
    /// Whose label was printed last.
    last: Option<ManifestEntry>,
    /// Why the serial number scanned next gets another certificate, if it does.
    reissue: Option<Reason>,
    count: Count,
}

impl Shift {
    fn welcome(&self) -> Result<(), Failure> {
        self.line.warn_without_master();
        let unfinished = self.line.station.unfinished()?;
        for begun in &unfinished {
            eprintln!(
                "warning: the bundle of `{}` in `{}` is not finished: scan `{}` again with its card",
                begun.id,
                begun.out.display(),
                begun.serial
            );
        }
        crate::print(&format!(
            "station `{}`: scan a serial number; {COMMANDS}\n",
            self.line.station.name()
        ))
    }

    fn prompt(&self) -> Result<(), Failure> {
        let what = if self.reissue.is_some() {
            "serial number to issue again> "
        } else {
            "serial number> "
        };
        match self.screen {
            Screen::Colour | Screen::Terminal => crate::print(what),
            Screen::Plain => Ok(()),
        }
    }

    fn reissue(&mut self, reason: Reason) -> Result<(), Failure> {
        self.reissue = Some(reason);
        crate::print(
            "the device that is scanned next is issued again, and its certificate revoked\n",
        )
    }

    /// A device's serial number was scanned.
    fn device(&mut self, serial: HardwareSerial) -> Result<(), Failure> {
        // Once, whatever comes of it: nobody should re-issue by having forgotten a word.
        let reissue = self.reissue.take();
        match self.try_device(serial, reissue) {
            Ok(Verdict::Issued(issued, out)) => self.ok(issued, &out),
            Ok(Verdict::Done(about)) => {
                self.count.done_before += 1;
                crate::print(&self.screen.show(Sign::Done, &about))
            }
            Err(refusal) => self.stop(&refusal),
        }
    }

    fn try_device(
        &mut self,
        serial: HardwareSerial,
        reissue: Option<Reason>,
    ) -> Result<Verdict, String> {
        let wrong_code = |error: &dyn std::error::Error| {
            format!("{}\nis this the right barcode?", with_causes(error))
        };
        self.line.settings.check_serial(&serial).map_err(|error| wrong_code(&error))?;
        let template = self.line.settings.id_template.as_ref();
        let template = template.expect("invariant: without a template the loop does not begin");
        let id = template.id(&serial).map_err(|error| wrong_code(&error))?;
        let out = self.place.of(&id, &serial);
        let ready = match &self.place {
            Place::Each(out) => line::prepare(out),
            Place::Card(path) => line::refuse_missing_parent(path),
        };
        ready.map_err(|error| format!("{}\n{}", with_causes(&error), error.hint()))?;

        let entry = self.line.station.find(&serial).map_err(|error| refusal(&error))?;
        let found = line::look(&out, entry.as_ref()).map_err(|error| card_fault(&error))?;
        match (&entry, found) {
            (_, Found::Other(holds)) => {
                return Err(format!(
                    "`{}` holds another device: {holds}\nput in the next card, or look what that is",
                    out.display()
                ));
            }
            (Some(entry), Found::Whole)
                if reissue.is_none() && entry.id == id && self.is_done(entry)? =>
            {
                return Ok(Verdict::Done(format!(
                    "{id}   serial number {serial}\nwas done at {}, and it is good: {}\nnothing was \
                     changed",
                    entry.issued,
                    out.display()
                )));
            }
            (_, Found::Whole | Found::Nothing) => {}
        }
        let before = entry.as_ref().filter(|_| reissue.is_some());
        let grains = self.line.grains.of(&BTreeMap::new(), before);
        let key = KeySource::Station;
        let order = Order { id, serial, key, grains, out: out.clone(), reissue };
        match self.line.issue(order, crate::now()) {
            Ok(issued) => Ok(Verdict::Issued(Box::new(issued), out)),
            Err(StationError::Seen { at, id, serial, unfinished: None, .. }) => Err(format!(
                "{id}   serial number {serial}\nwas issued at {at}, and is not in {}\nit is good if \
                 its device has it\nelse scan or type `reissue REASON`, and scan it again",
                out.display()
            )),
            Err(error @ StationError::Revoked { .. }) => Err(format!(
                "{}\nput the device aside\nif it is to work again, scan or type `reissue REASON`, and \
                 scan it again",
                with_causes(&error)
            )),
            Err(StationError::File(error)) => Err(card_fault(&error)),
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Whether its certificate counts, and its bundle is known to be whole.
    fn is_done(&self, entry: &ManifestEntry) -> Result<bool, String> {
        let unfinished = self.line.station.unfinished().map_err(|error| refusal(&error))?;
        let is_begun = unfinished.iter().any(|it| it.id == entry.id && it.key == entry.key);
        Ok(!is_begun && self.line.station.revocation(&entry.id).is_none())
    }

    fn ok(&mut self, issued: Box<Issued>, out: &Path) -> Result<(), Failure> {
        let entry = issued.entry;
        let mut about = format!("{}   serial number {}\n", entry.id, entry.serial);
        let what = match (issued.finished_earlier, issued.reissued) {
            (true, _) => "finished",
            (false, true) => "issued again",
            (false, false) => "written",
        };
        put(&mut about, format_args!("{what} and read back: {}", out.display()));
        if issued.key_is_exposed {
            put(&mut about, format_args!("others can read the key: this card keeps no modes"));
        }
        let count = &mut self.count;
        *match (issued.finished_earlier, issued.reissued) {
            (true, _) => &mut count.finished,
            (false, true) => &mut count.reissued,
            (false, false) => &mut count.issued,
        } += 1;
        match self.line.labels.write(&entry) {
            Ok(label) => put(&mut about, format_args!("\n{}", label.text().trim_end())),
            // The device is good all the same.
            Err(error) => put(
                &mut about,
                format_args!("no label: {}\nscan or type `reprint`", with_causes(&error)),
            ),
        }
        self.last = Some(entry);
        crate::print(&self.screen.show(Sign::Ok, &about))
    }

    fn stop(&mut self, about: &str) -> Result<(), Failure> {
        self.count.refused += 1;
        crate::print(&self.screen.show(Sign::Stop, about))
    }

    fn reprint(&mut self) -> Result<(), Failure> {
        let Some(entry) = &self.last else {
            return crate::print(
                "no device was issued in this session; any label is printed again with \
                 `drover-enrol label`\n",
            );
        };
        match self.line.labels.write(entry) {
            Ok(label) => crate::print(&format!(
                "{}  again in {}\n",
                label.text(),
                self.line.labels.directory().display()
            )),
            Err(error) => crate::print(&format!("no label: {}\n", with_causes(&error))),
        }
    }

    fn end(self, station: &Path) -> Result<(), Failure> {
        let Count { issued, reissued, finished, done_before, refused } = self.count;
        let mut text = format!("\nissued {}", devices(issued));
        for (count, words) in [
            (reissued, "issued again"),
            (finished, "finished"),
            (done_before, "done before"),
            (refused, "refused"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {words} {count}"));
            }
        }
        text.push('\n');
        if issued + reissued + finished > 0 {
            text.push_str(&format!(
                "  labels in {}\n  next: drover-enrol manifest --station {} --out FILE\n",
                self.line.labels.directory().display(),
                station.display()
            ));
        }
        crate::print(&text)
    }
}

/// What came of a scan.
enum Verdict {
    Issued(Box<Issued>, PathBuf),
    /// It had been issued before; nothing was done.
    Done(String),
}

fn refusal(error: &StationError) -> String {
    let hint = error.hint().map(|hint| format!("\n{hint}"));
    format!("{}{}", with_causes(error), hint.unwrap_or_default())
}

/// A card that cannot be read or written.
fn card_fault(error: &FileError) -> String {
    format!(
        "{}\nis the card in, not full and not read-only? put it right, or take another, and scan \
         again",
        with_causes(error)
    )
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "a String takes everything");
}
