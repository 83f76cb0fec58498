//! How large a share of the events a bridge takes. The event's own id decides, so an event that is read again is decided
//! of the same way. A machine.

use drover_proto::event::Event;
use drover_states::{
    diagnostic::Diagnostic,
    yaml::{Data, Node},
};

use super::config::wrong;

const WANTED: &str =
    "`sample` must be a share such as `10%`, or a map of globs on tags, each with one";

/// Shares by glob on the tag: the first that matches counts. What none matches is all taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(Vec<(String, Share)>);

/// How many of 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share(u64);

impl Sample {
    /// Reads `10%`, or `{'drover/beacon/*': 1%}`.
    ///
    /// # Errors
    /// With the place, when it is something else.
    pub(super) fn read(node: &Node, text: &str) -> Result<Self, Diagnostic> {
        let share = |node: &Node| Share::read(node).ok_or_else(|| wrong(node, text, WANTED));
        match &node.data {
            Data::Scalar(_) => Ok(Self(vec![("*".to_owned(), share(node)?)])),
            Data::Mapping(entries) => entries
                .iter()
                .map(|entry| Ok((entry.key.clone(), share(&entry.node)?)))
                .collect::<Result<_, _>>()
                .map(Self),
            Data::Sequence(_) => Err(wrong(node, text, WANTED)),
        }
    }

    /// Whether an event is of the share.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        let share = self.0.iter().find(|(glob, _)| event.tag.matches(glob));
        share.is_none_or(|(_, Share(share))| mix(event.id.as_u128()) < *share)
    }
}

impl Share {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and 1 of 2^64; the last bits do not matter, and a cast saturates"
    )]
    fn read(node: &Node) -> Option<Self> {
        let percent: f64 = node.as_str()?.strip_suffix('%')?.trim().parse().ok()?;
        let is_share = percent > 0.0 && percent <= 100.0;
        is_share.then(|| Self((percent / 100.0 * u64::MAX as f64) as u64))
    }
}

/// The finalizer of SplitMix64: ids that begin with the same time are spread evenly.
const fn mix(id: u128) -> u64 {
    let mut bits = (id >> 64) as u64 ^ id as u64;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use drover_states::yaml;
    use jiff::Timestamp;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    fn sample(text: &str) -> Result<Sample, Diagnostic> {
        Sample::read(&yaml::load_nodes(text).unwrap().unwrap(), text)
    }

    fn taken(sample: &Sample, tag: &str) -> Vec<Uuid> {
        let event = |id| Event {
            id,
            seq: 1,
            ts: Timestamp::UNIX_EPOCH,
            at: None,
            tag: tag.parse().unwrap(),
            minion: None,
            data: Value::Null,
        };
        // As the master makes them: within one millisecond only their end differs.
        let ids = (0..10_000u128).map(|n| Uuid::from_u128(0x0193_5000_0000_7000_8000 << 48 | n));
        ids.filter(|id| sample.takes(&event(*id))).collect()
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says_and_always_the_same() {
        let tenth = sample("10%").unwrap();
        let events = taken(&tenth, "a/b");
        assert!((900..1_100).contains(&events.len()), "{}", events.len());
        assert_eq!(taken(&tenth, "a/b"), events);
        assert_eq!(taken(&sample("100%").unwrap(), "a").len(), 10_000);
    }

    #[test]
    fn each_tag_has_its_share_and_what_is_not_named_is_all_taken() {
        let sample = sample("{'drover/beacon/*/load': 1%, 'drover/beacon/*': 50%}").unwrap();
        assert!((50..150).contains(&taken(&sample, "drover/beacon/a/load").len()));
        assert!((4_800..5_200).contains(&taken(&sample, "drover/beacon/a/disk").len()));
        assert_eq!(taken(&sample, "drover/job/1/new").len(), 10_000);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["0%", "101%", "ten", "[1%]", "{a: 2}", "0.1"] {
            assert!(sample(text).is_err(), "{text}");
        }
    }
}
