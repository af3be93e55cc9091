//! The versions of one module: which are kept, which one is active, and what a rollback returns to.
//!
//! Behind the active version lies the *trail*: the versions that were active before it, the latest on
//! top, each once. A push or an activation puts the version that was active on the trail; a rollback
//! takes the top of the trail off and makes it active. So rollbacks in a row go back further each
//! time, and none puts in force again what was rolled back from.

use std::collections::{BTreeMap, BTreeSet};

/// SHA-256 of something.
pub type Hash = [u8; 32];

/// What is known of a version without a look into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// SHA-256 of the binary.
    pub sha256: Hash,
    /// The binary's size, in bytes.
    pub size: u64,
    /// Tells the settings of one push (configuration, limits, overrides) from those of another; `None`
    /// where they are not known.
    pub settings: Option<Hash>,
    /// When it was pushed: milliseconds since 1970.
    pub pushed_ms: u64,
    /// How many procedures it has.
    pub procedures: u64,
    /// How many hooks it has.
    pub hooks: u64,
    /// How many prefixes of keys it was granted; `None` is every key.
    pub granted: Option<u64>,
    /// What the store keeps of it beside the binary, in bytes.
    pub record_bytes: u64,
}

/// How much of a module is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionBounds {
    /// Versions.
    pub count: usize,
    /// Bytes of all versions together, as of [`Versions::stored_bytes`].
    pub bytes: u64,
}

/// The versions that can't be dropped take more than a module may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the versions that must be kept (this one, the active one, and the one that a rollback returns to) take {bytes} bytes, which exceeds the limit of {limit} for one module"
)]
pub struct NoRoom {
    /// What they take.
    pub bytes: u64,
    /// The limit.
    pub limit: u64,
}

/// The versions of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    kept: BTreeMap<u64, Version>,
    active: Option<u64>,
    /// The versions that were active before, the latest last. Each is kept, and none is the active one.
    trail: Vec<u64>,
    /// The highest number that was ever given.
    newest: u64,
}

impl Versions {
    /// The versions as they were stored.
    ///
    /// # Errors
    /// In one sentence, where they contradict each other.
    pub fn restored(
        kept: Vec<Version>,
        active: Option<u64>,
        trail: Vec<u64>,
        newest: u64,
    ) -> Result<Self, String> {
        let kept: BTreeMap<u64, Version> = kept.into_iter().map(|it| (it.number, it)).collect();
        let named = active.iter().chain(&trail);
        let mut seen = BTreeSet::new();
        for number in named {
            if !kept.contains_key(number) {
                return Err(format!(
                    "its record names version {number}, which is not there"
                ));
            }
            if !seen.insert(number) {
                return Err(format!("its record names version {number} twice"));
            }
        }
        if let Some((last, _)) = kept.last_key_value().filter(|(last, _)| **last > newest) {
            return Err(format!(
                "it has version {last}, and its record knows of {newest}"
            ));
        }
        Ok(Self {
            kept,
            active,
            trail,
            newest,
        })
    }

    /// Those that are kept, by number.
    pub fn kept(&self) -> &BTreeMap<u64, Version> {
        &self.kept
    }

    /// The one in force.
    pub fn active(&self) -> Option<u64> {
        self.active
    }

    /// Those that were active before, the latest last.
    pub fn trail(&self) -> &[u64] {
        &self.trail
    }

    /// The one that a rollback returns to.
    pub fn rollback_target(&self) -> Option<u64> {
        self.trail.last().copied()
    }

    /// The highest number that was ever given.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The number that the next version gets.
    pub fn next(&self) -> u64 {
        self.newest + 1
    }

    /// The version with this content and these settings.
    pub fn find(&self, sha256: &Hash, settings: &Hash) -> Option<u64> {
        let is_same =
            |it: &&Version| it.sha256 == *sha256 && it.settings.as_ref() == Some(settings);
        self.kept
            .values()
            .rev()
            .find(is_same)
            .map(|version| version.number)
    }

    /// Whether any of them has this binary.
    pub fn has_binary(&self, sha256: &Hash) -> bool {
        self.kept.values().any(|version| version.sha256 == *sha256)
    }

    /// What they take in the store: each binary once, and the records.
    pub fn stored_bytes(&self) -> u64 {
        let binaries: BTreeMap<&Hash, u64> = self
            .kept
            .values()
            .map(|version| (&version.sha256, version.size))
            .collect();
        let records = self.kept.values().map(|version| version.record_bytes);
        binaries.into_values().chain(records).sum()
    }

    /// Adds a version, puts it in force where asked to, and drops the oldest beyond the bounds. The
    /// active one, the one that a rollback returns to, and the new one are never dropped.
    ///
    /// # Errors
    /// Those three take more than the bound; then these versions are of no use any more.
    pub fn add(
        &mut self,
        version: Version,
        activates: bool,
        bounds: VersionBounds,
    ) -> Result<Vec<Version>, NoRoom> {
        let number = version.number;
        self.newest = self.newest.max(number);
        self.kept.insert(number, version);
        if activates {
            self.activate(number);
        }
        self.drop_beyond(bounds, number)
    }

    /// Puts a version in force that is kept; answers whether it is.
    pub fn activate(&mut self, number: u64) -> bool {
        if !self.kept.contains_key(&number) {
            return false;
        }
        self.trail.retain(|it| *it != number);
        let before = self.active.replace(number);
        self.trail.extend(before.filter(|it| *it != number));
        true
    }

    /// Puts the version in force that was active before this one; answers which, if there is one.
    pub fn roll_back(&mut self) -> Option<u64> {
        let number = self.trail.pop()?;
        self.active = Some(number);
        Some(number)
    }

    fn drop_beyond(&mut self, bounds: VersionBounds, new: u64) -> Result<Vec<Version>, NoRoom> {
        let protected = [Some(new), self.active, self.rollback_target()];
        let mut dropped = Vec::new();
        loop {
            let bytes = self.stored_bytes();
            if self.kept.len() <= bounds.count && bytes <= bounds.bytes {
                return Ok(dropped);
            }
            let oldest = self
                .kept
                .keys()
                .copied()
                .find(|number| !protected.contains(&Some(*number)));
            match oldest.and_then(|number| self.kept.remove(&number)) {
                Some(version) => {
                    self.trail.retain(|it| *it != version.number);
                    dropped.push(version);
                }
                None if bytes > bounds.bytes => {
                    let limit = bounds.bytes;
                    return Err(NoRoom { bytes, limit });
                }
                // A bound on the count below three keeps these three all the same.
                None => return Ok(dropped),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: VersionBounds = VersionBounds {
        count: 100,
        bytes: u64::MAX,
    };

    fn version(number: u64) -> Version {
        Version {
            number,
            sha256: [u8::try_from(number).unwrap(); 32],
            size: 1_000,
            settings: Some([0; 32]),
            pushed_ms: 0,
            procedures: 0,
            hooks: 0,
            granted: None,
            record_bytes: 10,
        }
    }

    /// So many versions, each pushed and put in force.
    fn pushed(count: u64) -> Versions {
        let mut versions = Versions::default();
        for number in 1..=count {
            versions.add(version(number), true, AMPLE).unwrap();
        }
        versions
    }

    fn numbers(versions: &Versions) -> Vec<u64> {
        versions.kept().keys().copied().collect()
    }

    #[test]
    fn rollbacks_go_back_further_each_time_and_end_at_the_first() {
        let mut versions = pushed(3);
        assert_eq!(versions.roll_back(), Some(2));
        assert_eq!(versions.roll_back(), Some(1));
        assert_eq!(versions.roll_back(), None);
        assert_eq!(versions.active(), Some(1));
    }

    #[test]
    fn a_rollback_undoes_an_activation() {
        let mut versions = pushed(3);
        assert!(versions.activate(1));
        assert_eq!(versions.trail(), [2, 3]);
        assert_eq!(versions.roll_back(), Some(3));
        assert_eq!(versions.roll_back(), Some(2));
        assert_eq!(versions.roll_back(), None);
    }

    #[test]
    fn what_was_rolled_back_from_does_not_come_back_with_the_next_push() {
        let mut versions = pushed(3);
        versions.roll_back();
        versions.add(version(4), true, AMPLE).unwrap();
        assert_eq!(versions.trail(), [1, 2]);
    }

    #[test]
    fn activations_to_and_fro_do_not_lengthen_the_trail() {
        let mut versions = pushed(2);
        for _ in 0..100 {
            versions.activate(1);
            versions.activate(2);
            versions.activate(2);
        }
        assert_eq!((versions.active(), versions.trail()), (Some(2), &[1][..]));
    }

    #[test]
    fn what_is_not_kept_is_not_activated() {
        let mut versions = pushed(2);
        assert!(!versions.activate(3));
        assert_eq!(versions, pushed(2));
    }

    #[test]
    fn the_oldest_are_dropped_but_for_the_active_one_and_what_a_rollback_returns_to() {
        let bounds = VersionBounds { count: 3, ..AMPLE };
        let mut versions = pushed(3);
        versions.activate(1);
        let dropped = versions.add(version(4), false, bounds).unwrap();
        assert_eq!(dropped, [version(2)]);
        assert_eq!(numbers(&versions), [1, 3, 4]);
        assert_eq!(versions.trail(), [3]);
        let dropped = versions.add(version(5), true, bounds).unwrap();
        assert_eq!(dropped, [version(3), version(4)][..1]);
        assert_eq!((numbers(&versions), versions.newest()), (vec![1, 4, 5], 5));
    }

    #[test]
    fn bytes_are_bounded_and_a_binary_counts_once() {
        let bounds = VersionBounds {
            bytes: 2_030,
            ..AMPLE
        };
        let mut versions = pushed(2);
        let same = Version {
            sha256: version(2).sha256,
            ..version(3)
        };
        versions.add(same, false, bounds).unwrap();
        assert_eq!(versions.stored_bytes(), 2_030);
        let mut full = versions.clone();
        let refused = full.add(version(4), false, bounds).unwrap_err();
        let bytes = 3_030;
        assert_eq!(
            refused,
            NoRoom {
                bytes,
                limit: 2_030
            }
        );
        let dropped = versions.add(version(4), true, bounds).unwrap();
        assert_eq!(dropped, [version(1)]);
        assert_eq!(versions.stored_bytes(), 2_030);
    }

    #[test]
    fn content_is_found_with_its_settings_only() {
        let versions = pushed(2);
        assert_eq!(versions.find(&version(1).sha256, &[0; 32]), Some(1));
        assert_eq!(versions.find(&version(1).sha256, &[1; 32]), None);
        assert_eq!(versions.find(&[9; 32], &[0; 32]), None);
        let mut unknown = Versions::default();
        let settings = None;
        unknown
            .add(
                Version {
                    settings,
                    ..version(1)
                },
                true,
                AMPLE,
            )
            .unwrap();
        assert_eq!(unknown.find(&version(1).sha256, &[0; 32]), None);
    }

    #[test]
    fn records_that_contradict_each_other_are_refused() {
        let restored = |active, trail: &[u64], newest| {
            Versions::restored(vec![version(1), version(2)], active, trail.to_vec(), newest)
        };
        assert_eq!(restored(Some(2), &[1], 2), Ok(pushed(2)));
        for (active, trail, newest) in [
            (Some(3), &[][..], 3),
            (Some(2), &[3], 3),
            (Some(2), &[2], 2),
            (Some(2), &[1, 1], 2),
            (Some(2), &[1], 1),
        ] {
            assert!(restored(active, trail, newest).is_err());
        }
    }
}
