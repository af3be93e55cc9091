//! The ledger of one connection, whose keys nobody else writes.
//!
//! A connection's requests are carried out in the order in which they were sent, each whole. So after
//! a kill its keys hold what was acknowledged, and then the first few of the writes that were under
//! way, each of them whole: none, some or all, but no second without the first.

use std::collections::{BTreeMap, VecDeque};

use super::state::State;

/// A request that writes: what its keys hold afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What was asked, in words.
    pub text: String,
    /// Keys with what they hold then.
    pub changes: Vec<(String, State)>,
}

/// What one connection was told, and what it asked for besides.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    settled: BTreeMap<String, State>,
    /// The newest version that was told of a key.
    versions: BTreeMap<String, u64>,
    under_way: VecDeque<Write>,
    acknowledged: u64,
}

/// What a key holds, and in which version.
pub type Found = (Vec<u8>, u64);

/// What is not as it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// A sentence for each key.
    pub story: Vec<String>,
}

impl Ledger {
    /// What a key holds once everything under way is done.
    #[must_use]
    pub fn expected(&self, key: &str) -> State {
        let mut changes = self.under_way.iter().rev().flat_map(|it| &it.changes);
        let change = changes.find(|(changed, _)| changed == key);
        let settled = || self.settled.get(key).copied().unwrap_or(State::Absent);
        change.map_or_else(settled, |(_, state)| *state)
    }

    /// Writes that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Notes a write that is about to be sent.
    pub fn send(&mut self, write: Write) {
        self.under_way.push_back(write);
    }

    /// Notes that the oldest write under way was acknowledged, perhaps with a version.
    pub fn acknowledge(&mut self, version: Option<u64>) {
        let Some(write) = self.under_way.pop_front() else {
            return;
        };
        self.acknowledged += 1;
        for (key, state) in write.changes {
            if let Some(version) = version {
                self.versions.insert(key.clone(), version);
            }
            self.settled.insert(key, state);
        }
    }

    /// Notes that the oldest write under way was refused.
    pub fn refuse(&mut self) {
        self.under_way.pop_front();
    }

    /// Compares what is stored with what was told; then takes what is stored as settled.
    ///
    /// # Errors
    /// What was acknowledged is gone, or a write is there in part.
    pub fn settle(&mut self, found: &BTreeMap<String, Found>) -> Result<(), Loss> {
        let mut state = self.settled.clone();
        let mut story = self.differences(found, &state);
        for write in &self.under_way {
            if story.is_empty() {
                break;
            }
            state.extend(write.changes.iter().cloned());
            let differences = self.differences(found, &state);
            if differences.len() < story.len() {
                story = differences;
            }
        }
        if !story.is_empty() {
            let story = self.explain(story);
            return Err(Loss { story });
        }
        self.settled = state;
        self.under_way.clear();
        self.check_versions(found)?;
        let told = found.iter();
        let told = told.map(|(key, (_, version))| (key.clone(), *version));
        self.versions.extend(told);
        Ok(())
    }

    fn differences(
        &self,
        found: &BTreeMap<String, Found>,
        state: &BTreeMap<String, State>,
    ) -> Vec<String> {
        let mut story = Vec::new();
        for (key, state) in state {
            let value = found.get(key).map(|(value, _)| &value[..]);
            if !state.is(value) {
                story.push(format!(
                    "{key} should hold {state}, and holds {}",
                    shown(value)
                ));
            }
        }
        for (key, (value, _)) in found {
            if !state.contains_key(key) {
                story.push(format!(
                    "{key} should be absent, and holds {}",
                    shown(Some(value))
                ));
            }
        }
        story
    }

    fn check_versions(&self, found: &BTreeMap<String, Found>) -> Result<(), Loss> {
        let mut story = Vec::new();
        for (key, (_, version)) in found {
            let told = self.versions.get(key).copied().unwrap_or(0);
            if *version < told {
                story.push(format!(
                    "{key} has the version {version}, and had {told} before"
                ));
            }
        }
        match story.is_empty() {
            true => Ok(()),
            false => Err(Loss { story }),
        }
    }

    fn explain(&self, mut story: Vec<String>) -> Vec<String> {
        let under_way = self.under_way.iter().map(|write| &write.text);
        story.extend(under_way.map(|text| format!("under way: {text}")));
        story
    }
}

fn shown(value: Option<&[u8]>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(value) if value.len() <= 24 => value.escape_ascii().to_string(),
        Some(value) => {
            let beginning = value.get(..16).unwrap_or(value);
            format!("{} bytes, {}…", value.len(), beginning.escape_ascii())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(changes: &[(&str, State)]) -> Write {
        let changes = changes
            .iter()
            .map(|(key, state)| ((*key).to_owned(), *state));
        Write {
            text: "a write".to_owned(),
            changes: changes.collect(),
        }
    }

    fn stored(states: &[(&str, State, u64)]) -> BTreeMap<String, Found> {
        let found = states.iter().filter_map(|(key, state, version)| {
            Some(((*key).to_owned(), (state.encode()?, *version)))
        });
        found.collect()
    }

    /// Acknowledged: a = 1. Under way: a = 2 with b = 2, then the deletion of a.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.send(write(&[("a", State::Number(1))]));
        ledger.acknowledge(Some(5));
        ledger.send(write(&[("a", State::Number(2)), ("b", State::Number(2))]));
        ledger.send(write(&[("a", State::Absent)]));
        ledger
    }

    #[test]
    fn what_was_acknowledged_may_stand_alone_or_with_the_first_writes_behind_it() {
        for found in [
            stored(&[("a", State::Number(1), 5)]),
            stored(&[("a", State::Number(2), 6), ("b", State::Number(2), 6)]),
            stored(&[("b", State::Number(2), 6)]),
        ] {
            ledger().settle(&found).unwrap();
        }
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_is_a_loss() {
        let loss = ledger().settle(&stored(&[])).unwrap_err();
        assert!(loss.story[0].contains("should hold"), "{loss:?}");
    }

    #[test]
    fn half_a_write_is_a_loss() {
        ledger()
            .settle(&stored(&[("a", State::Number(2), 6)]))
            .unwrap_err();
        let half = stored(&[("a", State::Number(1), 5), ("b", State::Number(2), 6)]);
        ledger().settle(&half).unwrap_err();
    }

    #[test]
    fn a_later_write_without_an_earlier_one_is_a_loss() {
        let mut ledger = Ledger::default();
        ledger.send(write(&[("a", State::Number(1))]));
        ledger.send(write(&[("b", State::Number(1))]));
        ledger
            .settle(&stored(&[("b", State::Number(1), 1)]))
            .unwrap_err();
    }

    #[test]
    fn a_deleted_key_that_comes_back_is_a_loss() {
        let mut ledger = Ledger::default();
        ledger.send(write(&[("a", State::Number(1))]));
        ledger.acknowledge(Some(1));
        ledger.send(write(&[("a", State::Absent)]));
        ledger.acknowledge(None);
        ledger
            .settle(&stored(&[("a", State::Number(1), 1)]))
            .unwrap_err();
    }

    #[test]
    fn a_key_that_nobody_wrote_is_a_loss() {
        let found = stored(&[("a", State::Number(1), 5), ("x", State::Number(1), 5)]);
        ledger().settle(&found).unwrap_err();
    }

    #[test]
    fn a_version_that_goes_down_is_a_loss() {
        let loss = ledger().settle(&stored(&[("a", State::Number(1), 4)]));
        assert!(loss.unwrap_err().story[0].contains("version 4"));
    }

    #[test]
    fn a_refused_write_is_not_expected() {
        let mut ledger = ledger();
        assert_eq!(ledger.expected("a"), State::Absent);
        ledger.acknowledge(Some(6));
        ledger.refuse();
        assert_eq!(ledger.expected("a"), State::Number(2));
        ledger
            .settle(&stored(&[("a", State::Number(1), 5)]))
            .unwrap_err();
    }

    #[test]
    fn what_was_found_is_what_counts_from_then_on() {
        let mut ledger = ledger();
        let found = stored(&[("a", State::Number(2), 6), ("b", State::Number(2), 6)]);
        ledger.settle(&found).unwrap();
        ledger
            .settle(&stored(&[("a", State::Number(1), 7)]))
            .unwrap_err();
        assert_eq!(ledger.expected("b"), State::Number(2));
    }
}
