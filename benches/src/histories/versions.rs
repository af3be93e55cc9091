//! The values of each key in their order, and which of them each read saw.

use std::collections::HashMap;

use super::checker::Anomaly;
use super::history::{History, Moment, Operation, Outcome, Read, Seen};

/// The number of an operation in its history.
pub type Number = usize;

/// One state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The sequence of the commit that made it; 0 for the beginning, in which every key is absent.
    pub sequence: u64,
    /// What the key held.
    pub holds: Seen,
    /// Who made it; none for the beginning.
    pub writer: Option<Number>,
    /// When it may begin to be gone, and when it must be.
    pub expires: Option<(Moment, Moment)>,
}

/// A read that is known to have seen one version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Who read.
    pub reader: Number,
    /// The key, by its place in [`Versions::keys`].
    pub key: u32,
    /// The version, by its place in the key's order.
    pub version: usize,
    /// Whether it saw the absence behind that version's expiry.
    pub is_expired: bool,
    /// Whether it read a range.
    pub by_range: bool,
}

/// What a history tells about its keys.
#[derive(Debug, Default)]
pub struct Versions {
    /// The keys' names.
    pub keys: Vec<String>,
    /// The versions of each key, oldest first.
    pub orders: Vec<Vec<Version>>,
    /// The reads, as far as it is known what they saw.
    pub reads: Vec<Resolved>,
    /// What is wrong with single reads and writes.
    pub anomalies: Vec<Anomaly>,
    /// What is wrong only if the sequences that the server told are its serial order.
    pub misplaced: Vec<Anomaly>,
}

/// Who wrote a value, and whether it was the last value that its operation gave the key.
#[derive(Clone, Copy)]
struct Origin {
    writer: Number,
    is_final: bool,
}

struct Index<'a> {
    history: &'a History,
    names: HashMap<&'a str, u32>,
    origins: HashMap<(&'a str, u64), Origin>,
    /// The sequence of each value, as readers were told.
    told: HashMap<(&'a str, u64), u64>,
    /// The place of each value in its key's order.
    places: HashMap<(u32, u64), usize>,
}

impl Versions {
    /// Orders the versions of all keys, and finds what each read saw.
    #[must_use]
    pub fn new(history: &History) -> Self {
        let mut versions = Self::default();
        let mut index = versions.index(history);
        versions.order(&mut index);
        versions.resolve(&index);
        versions
    }

    fn index<'a>(&mut self, history: &'a History) -> Index<'a> {
        let mut index = Index {
            history,
            names: HashMap::new(),
            origins: HashMap::new(),
            told: HashMap::new(),
            places: HashMap::new(),
        };
        for (writer, operation) in history.operations.iter().enumerate() {
            for text in &operation.contradictions {
                let story = vec![format!("{writer}: {operation}"), text.clone()];
                self.found("internal inconsistency", story);
            }
            for (at, write) in operation.writes.iter().enumerate() {
                self.name(&mut index, &write.key);
                let Seen::Value(value) = write.stores else {
                    continue;
                };
                let mut later = operation.writes.iter().skip(at + 1);
                let is_final = !later.any(|later| later.key == write.key);
                let origin = Origin { writer, is_final };
                let before = index.origins.insert((&write.key, value), origin);
                if let Some(before) = before
                    && operation.may_have_happened()
                {
                    let first = operation_text(history, before.writer);
                    let story = vec![
                        first,
                        format!("{writer}: {operation}"),
                        format!("both gave {} the value {value}", write.key),
                    ];
                    self.found("lost update", story);
                }
            }
        }
        for (reader, operation) in history.operations.iter().enumerate() {
            for read in &operation.reads {
                self.name(&mut index, &read.key);
                if let (Seen::Value(value), Some(version)) = (read.seen, read.version) {
                    let told = *index.told.entry((&read.key, value)).or_insert(version);
                    if told != version {
                        let story = vec![
                            format!("{reader}: {operation}"),
                            format!(
                                "{} = {value} has the version {version}, and had {told} for others",
                                read.key
                            ),
                        ];
                        self.found("a value with two versions", story);
                    }
                }
            }
        }
        index
    }

    fn name<'a>(&mut self, index: &mut Index<'a>, key: &'a str) {
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        if *index.names.entry(key).or_insert(next) == next {
            self.keys.push(key.to_owned());
            self.orders.push(vec![Version {
                sequence: 0,
                holds: Seen::Absent,
                writer: None,
                expires: None,
            }]);
        }
    }

    /// Puts the last write of each operation to each key in its place.
    fn order(&mut self, index: &mut Index<'_>) {
        for (number, operation) in index.history.operations.iter().enumerate() {
            if !operation.may_have_happened() {
                continue;
            }
            for (at, write) in operation.writes.iter().enumerate() {
                let mut later = operation.writes.iter().skip(at + 1);
                if later.any(|later| later.key == write.key) {
                    continue;
                }
                let told = match write.stores {
                    Seen::Value(value) => index.told.get(&(write.key.as_str(), value)).copied(),
                    Seen::Absent => None,
                };
                if let (Some(told), Some(sequence)) = (told, operation.sequence)
                    && told != sequence
                {
                    let story = vec![
                        format!("{number}: {operation}"),
                        format!("its {} was read with the version {told}", write.key),
                    ];
                    self.misplaced.push(Anomaly::new("torn commit", story));
                }
                let order = index.names.get(write.key.as_str());
                let order = order.and_then(|name| self.orders.get_mut(*name as usize));
                if let (Some(sequence), Some(order)) = (told.or(operation.sequence), order) {
                    order.push(Version {
                        sequence,
                        holds: write.stores,
                        writer: Some(number),
                        expires: write.expires,
                    });
                }
            }
        }
        for (key, order) in (0..).zip(&mut self.orders) {
            order.sort_by_key(|version| version.sequence);
            for (at, version) in order.iter().enumerate() {
                if let Seen::Value(value) = version.holds {
                    index.places.insert((key, value), at);
                }
            }
        }
    }

    /// Finds the version that each read saw, an operation at a time in the order in which they were
    /// asked for: what was done before tells which of several absences can be meant.
    fn resolve(&mut self, index: &Index<'_>) {
        let operations = &index.history.operations;
        let mut numbers: Vec<Number> = (0..operations.len()).collect();
        let invoked = |number: &Number| operations.get(*number).map_or(0, |it| it.invoked);
        numbers.sort_by_key(invoked);
        let mut under_way: Vec<(Moment, u64)> = Vec::new();
        let mut of_connection: HashMap<usize, u64> = HashMap::new();
        let mut done = 0;
        for number in numbers {
            let Some(operation) = operations.get(number) else {
                continue;
            };
            under_way.retain(|(completed, place)| {
                let is_over = *completed < operation.invoked;
                if is_over {
                    done = done.max(*place);
                }
                !is_over
            });
            let own = of_connection.entry(operation.connection).or_default();
            let place = self.resolve_operation(index, number, operation, done.max(*own));
            if operation.outcome == Outcome::Done {
                *own = place.max(*own);
                under_way.push((operation.completed, place));
            }
        }
    }

    /// Resolves one operation's reads, given a sequence that it can't be before; answers its own place.
    fn resolve_operation(
        &mut self,
        index: &Index<'_>,
        number: Number,
        operation: &Operation,
        earliest: u64,
    ) -> u64 {
        // What was seen lasted from the latest of its beginnings to the earliest of its ends.
        let (mut place, mut end) = (0, u64::MAX);
        let mut absent = Vec::new();
        for read in &operation.reads {
            let Some(key) = index.names.get(read.key.as_str()).copied() else {
                continue;
            };
            let Seen::Value(value) = read.seen else {
                absent.push((key, read));
                continue;
            };
            if let Some(version) = self.version_of(index, number, read, value, key) {
                self.push_read(number, key, version, read, false);
                let order = self.orders.get(key as usize);
                let seen = order.and_then(|order| order.get(version));
                place = place.max(seen.map_or(0, |version| version.sequence));
                let next = order.and_then(|order| order.get(version + 1));
                end = end.min(next.map_or(u64::MAX, |version| version.sequence));
            }
        }
        if let Some(sequence) = operation.sequence {
            // A commit reads what lies right before it.
            place = sequence.saturating_sub(1);
        } else {
            // If no place is late enough, the one that the values need shows best what is wrong.
            let first = self.first_place(&absent, place.max(earliest), end);
            let first = first.or_else(|| self.first_place(&absent, place, end));
            place = first.unwrap_or(place);
        }
        for (key, read) in absent {
            self.resolve_absence(index, number, operation, read, key, place);
        }
        operation.sequence.unwrap_or(place)
    }

    fn version_of(
        &mut self,
        index: &Index<'_>,
        reader: Number,
        read: &Read,
        value: u64,
        key: u32,
    ) -> Option<usize> {
        let text = |number| operation_text(index.history, number);
        let what = format!("{} = {value} was read", read.key);
        let Some(origin) = index.origins.get(&(read.key.as_str(), value)) else {
            self.found(
                "garbage read",
                vec![text(reader), what, "nobody wrote it".into()],
            );
            return None;
        };
        let writer = index.history.operations.get(origin.writer)?;
        if !writer.may_have_happened() {
            self.found(
                "G1a (aborted read)",
                vec![text(origin.writer), text(reader), what],
            );
            return None;
        }
        if !origin.is_final && origin.writer != reader {
            self.found(
                "G1b (intermediate read)",
                vec![text(origin.writer), text(reader), what],
            );
            return None;
        }
        index.places.get(&(key, value)).copied()
    }

    /// The first sequence from `place` on, and before `end`, at which all of these keys are absent.
    fn first_place(&self, absent: &[(u32, &Read)], place: u64, end: u64) -> Option<u64> {
        let mut candidate = place;
        loop {
            let before = candidate;
            for (key, _) in absent {
                let Some(order) = self.orders.get(*key as usize) else {
                    continue;
                };
                if order.iter().any(|version| version.expires.is_some()) {
                    continue;
                }
                let at = order.partition_point(|version| version.sequence <= candidate);
                let current = order.get(at.saturating_sub(1));
                if current.is_some_and(|version| version.holds == Seen::Absent) {
                    continue;
                }
                let mut later = order.iter().skip(at);
                let next = later.find(|version| version.holds == Seen::Absent)?;
                candidate = next.sequence;
            }
            if candidate == before {
                return (candidate < end).then_some(candidate);
            }
        }
    }

    fn resolve_absence(
        &mut self,
        index: &Index<'_>,
        reader: Number,
        operation: &Operation,
        read: &Read,
        key: u32,
        place: u64,
    ) {
        let Some(order) = self.orders.get(key as usize) else {
            return;
        };
        let expiring = order.iter().position(|version| version.expires.is_some());
        if let Some(at) = expiring {
            let Some(version) = order.get(at) else { return };
            let writer = version
                .writer
                .and_then(|writer| index.history.operations.get(writer));
            let Some(writer) = writer else { return };
            // Beside its write nothing tells whether an absence is that before or that behind.
            let is_later = place >= version.sequence;
            let is_earlier = operation.sequence.is_some()
                || operation.completed < writer.invoked
                || (writer.outcome == Outcome::Done && writer.completed < operation.invoked);
            if is_later {
                self.push_read(reader, key, at, read, true);
            } else if is_earlier {
                self.push_read(reader, key, 0, read, false);
            }
            return;
        }
        let known = order.partition_point(|version| version.sequence <= place);
        let mut earlier = order.iter().enumerate().take(known).rev();
        if let Some((at, _)) = earlier.find(|(_, version)| version.holds == Seen::Absent) {
            self.push_read(reader, key, at, read, false);
        }
    }

    fn push_read(
        &mut self,
        reader: Number,
        key: u32,
        version: usize,
        read: &Read,
        is_expired: bool,
    ) {
        self.reads.push(Resolved {
            reader,
            key,
            version,
            is_expired,
            by_range: read.by_range,
        });
    }

    fn found(&mut self, name: &str, story: Vec<String>) {
        self.anomalies.push(Anomaly::new(name, story));
    }
}

fn operation_text(history: &History, number: Number) -> String {
    let operation = history.operations.get(number);
    operation.map_or_else(String::new, |operation| format!("{number}: {operation}"))
}
