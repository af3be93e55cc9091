//! Random transactions, on few keys, so that they meet.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use luge_benches::histories::Seen;
use luge_benches::random::Random;

use crate::program::Step;

const POINTS: u64 = 6;
const GROUPS: u64 = 3;
const GROUP_KEYS: u64 = 5;
const COUNTERS: u64 = 2;
const HOOKED: u64 = 3;

/// Keys that everybody turns to at the same time and then leaves alone, for so many numbers each: by the time that
/// one comes again, a store with small bounds has it in its index alone.
const COLD: u64 = 48;
const COLD_TURN: u64 = 16;

/// One in so many requests is a long look.
const LONG_LOOK_EVERY: u64 = 500;

/// About 20 ms, which is how often the store may fold.
const LONG_LOOK_TURNS: u8 = 200;

/// Keys with a time to live that are worth looking at: the latest.
const MAX_RECENT: usize = 8;

/// The first number of a transaction. All have the same number of digits, so that ranges of them are
/// ranges of their texts.
pub(crate) const FIRST_NUMBER: u64 = 10_000_000;

/// What one client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Get(String),
    Mget(Vec<String>),
    /// A page of this many entries of the keys that begin with this text, of which these may be there.
    Scan {
        prefix: String,
        keys: Vec<String>,
        limit: u64,
        reverse: bool,
    },
    Set {
        key: String,
        value: u64,
        wants_old: bool,
    },
    /// A set that hooks stand around, perhaps under a condition.
    SetHooked {
        key: String,
        value: u64,
        if_absent: bool,
    },
    SetExpiring {
        key: String,
        value: u64,
        ttl: Duration,
    },
    Incr(String),
    Batch(Vec<Step>),
    Call(Vec<Step>),
    Peek(Vec<Step>),
}

/// What the clients of a round share.
pub(crate) struct Round {
    pub(crate) number: u64,
    next: AtomicU64,
    left: AtomicU64,
    /// Keys with a time to live, and when they will be about gone.
    expiring: Mutex<VecDeque<(String, Instant)>>,
}

impl Round {
    /// A round of so many transactions, whose numbers begin with `first`.
    pub(crate) fn new(number: u64, first: u64, transactions: u64) -> Self {
        Self {
            number,
            next: AtomicU64::new(first),
            left: AtomicU64::new(transactions),
            expiring: Mutex::default(),
        }
    }

    /// Takes so many transactions of what is left to do; false where there is nothing left.
    pub(crate) fn take(&self, transactions: u64) -> bool {
        let left = self.left.fetch_sub(transactions, Ordering::Relaxed);
        // Below 0 it wraps around, far beyond what anybody asks for.
        left >= transactions && left < u64::MAX / 2
    }

    /// A value for each place of a transaction, none of which is used twice.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A key of this round.
    fn key(&self, kind: &str, which: u64) -> String {
        format!("{kind}:{}:{which}", self.number)
    }

    /// All keys of this round that may be there, but for those with a time to live.
    pub(crate) fn keys(&self) -> Vec<String> {
        let of = |kind: &'static str, count| (0..count).map(move |which| self.key(kind, which));
        let groups = (0..GROUPS).flat_map(|group| self.group(group).1);
        let hooked = (0..HOOKED).flat_map(|which| self.hooked(which));
        let all = of("p", POINTS).chain(of("c", COUNTERS)).chain(groups);
        all.chain(hooked).chain(of("o", COLD)).collect()
    }

    /// The cold key whose turn it is.
    fn cold(&self) -> String {
        let turn = self.next.load(Ordering::Relaxed) / COLD_TURN;
        self.key("o", turn % COLD)
    }

    /// A group's prefix and its keys.
    fn group(&self, group: u64) -> (String, Vec<String>) {
        let prefix = format!("r:{}:{group}:", self.number);
        let keys = (0..GROUP_KEYS).map(|which| format!("{prefix}{which}"));
        let keys = keys.collect();
        (prefix, keys)
    }

    /// A hooked key, and the keys that the hooks write beside it.
    fn hooked(&self, which: u64) -> Vec<String> {
        let key = self.key("h", which);
        vec![
            format!("audit:{key}"),
            format!("echo::{key}"),
            format!("ghost:{key}"),
            key,
        ]
    }

    fn recent(&self, random: &mut Random) -> Option<String> {
        let recent = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        random
            .pick(recent.as_slices().0)
            .map(|(key, _)| key.clone())
    }

    /// The key that expires next.
    fn expiring_next(&self) -> Option<String> {
        let recent = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let ahead = recent.iter().filter(|(_, end)| *end > now);
        ahead
            .min_by_key(|(_, end)| *end)
            .map(|(key, _)| key.clone())
    }

    /// Notes a key that is going to expire.
    fn note(&self, key: &str, ttl: Duration) {
        let mut recent = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back((key.to_owned(), Instant::now() + ttl));
        recent.make_contiguous();
    }
}

/// One client's choices.
pub(crate) struct Chooser<'a> {
    pub(crate) round: &'a Round,
    pub(crate) random: Random,
    /// What this client saw last under a key, and in which version.
    pub(crate) known: HashMap<String, (Seen, u64)>,
}

impl Chooser<'_> {
    /// What to send next: one transaction, or several in a pipeline.
    pub(crate) fn next(&mut self) -> Vec<Task> {
        if self.random.below(LONG_LOOK_EVERY) == 0 {
            return vec![self.long_look()];
        }
        match self.random.below(100) {
            // A write and a read behind it, which must see it.
            0..12 => {
                let key = self.point();
                let write = match self.random.percent(50) {
                    true => self.set(key.clone()),
                    false => Task::Call(vec![Step::Set(key.clone(), self.value())]),
                };
                vec![write, Task::Get(key)]
            }
            12..15 => self.watch_expiry(),
            15..30 => self.cold(),
            30..45 => (0..=self.random.below(5)).map(|_| self.task()).collect(),
            _ => vec![self.task()],
        }
    }

    /// Reads or writes the key that is cold for everybody, and looks at it again.
    fn cold(&mut self) -> Vec<Task> {
        let key = self.round.cold();
        let first = match self.random.below(10) {
            0..6 => Task::Get(key.clone()),
            6..9 => self.set(key.clone()),
            _ => Task::Call(vec![
                Step::Get(key.clone()),
                Step::Set(key.clone(), self.value()),
            ]),
        };
        vec![first, Task::Get(key)]
    }

    fn task(&mut self) -> Task {
        match self.random.below(100) {
            0..10 => Task::Get(self.any_key()),
            10..18 => {
                let keys = (0..=self.random.below(4)).map(|_| self.any_key()).collect();
                Task::Mget(keys)
            }
            18..25 => self.scan(),
            25..33 => {
                let key = self.point();
                self.set(key)
            }
            33..40 => {
                let which = self.random.below(HOOKED);
                Task::SetHooked {
                    key: self.round.key("h", which),
                    value: self.value(),
                    if_absent: self.random.percent(20),
                }
            }
            40..43 => {
                let which = self.random.below(HOOKED);
                Task::Mget(self.round.hooked(which))
            }
            43..47 => self.set_expiring(),
            47..50 => Task::Incr(self.round.key("c", self.random.below(COUNTERS))),
            50..62 => self.batch(),
            62..68 => {
                let count = 1 + self.random.below(4);
                Task::Peek((0..count).map(|_| self.read_step()).collect())
            }
            68..72 => self.guarded_insert(),
            72..74 => self.judge_expiry(),
            _ => self.call(),
        }
    }

    fn scan(&mut self) -> Task {
        if self.random.percent(30)
            && let Some(key) = self.round.recent(&mut self.random)
        {
            return Task::Scan {
                prefix: key.clone(),
                keys: vec![key],
                limit: 2,
                reverse: false,
            };
        }
        let (prefix, keys) = self.round.group(self.random.below(GROUPS));
        Task::Scan {
            prefix,
            keys,
            limit: 1 + self.random.below(8),
            reverse: self.random.percent(40),
        }
    }

    fn set(&mut self, key: String) -> Task {
        Task::Set {
            key,
            value: self.value(),
            wants_old: self.random.percent(40),
        }
    }

    fn set_expiring(&mut self) -> Task {
        let value = self.value();
        let key = self.round.key("t", value);
        let ttl = Duration::from_millis(10 + self.random.below(40));
        self.round.note(&key, ttl);
        Task::SetExpiring { key, value, ttl }
    }

    /// A batch: a condition that may hold, reads, writes, deletions.
    fn batch(&mut self) -> Task {
        let mut steps = Vec::new();
        let key = self.any_kept_key();
        let known = self.known.get(&key).copied();
        if self.random.percent(30)
            && let Some((seen, version)) = known
        {
            steps.push(Step::Check(key.clone(), seen, version));
            steps.push(Step::Set(key.clone(), self.value()));
        }
        for _ in 0..=self.random.below(3) {
            steps.push(match self.random.below(10) {
                0..4 => Step::Get(self.any_kept_key()),
                4..7 => Step::Set(self.any_kept_key(), self.value()),
                7..9 => Step::Delete(self.any_kept_key()),
                _ => Step::Incr(self.round.key("c", self.random.below(COUNTERS))),
            });
        }
        self.witness(&mut steps);
        // One that does not hold undoes what came before.
        let is_own = steps
            .iter()
            .any(|it| matches!(it, Step::Set(own, _) | Step::Delete(own) if *own == key));
        if self.random.percent(30)
            && !is_own
            && let Some((seen, version)) = known
        {
            steps.push(Step::Check(key, seen, version));
        }
        Task::Batch(steps)
    }

    /// A procedure: reads, a while, writes; perhaps undone by a refusal or a trap at the end.
    fn call(&mut self) -> Task {
        let mut steps = vec![Step::Attempt];
        for _ in 0..=self.random.below(3) {
            steps.push(self.read_step());
        }
        self.wait(&mut steps);
        for _ in 0..=self.random.below(2) {
            let key = self.any_kept_key();
            steps.push(match self.random.below(10) {
                0..6 => Step::Set(key, self.value()),
                6..8 => Step::Delete(key),
                _ => Step::Incr(self.round.key("c", self.random.below(COUNTERS))),
            });
        }
        // Own writes show, to points and to ranges.
        if self.random.percent(50) {
            steps.push(self.read_step());
        }
        if let Some(Step::Set(key, _)) = steps.last().cloned() {
            steps.push(Step::Get(key));
        }
        self.witness(&mut steps);
        match self.random.below(100) {
            0..12 => steps.push(Step::Refuse),
            12..16 => steps.push(Step::Trap),
            _ => {}
        }
        Task::Call(steps)
    }

    /// A procedure that looks for something to do, and does it if there is nothing: where two at once
    /// find nothing, both of them write.
    fn guarded_insert(&mut self) -> Task {
        let (prefix, keys) = self.round.group(self.random.below(GROUPS));
        let key = self.random.pick(&keys).cloned().unwrap_or_default();
        let other = self.random.pick(&keys).cloned().unwrap_or_default();
        let mut steps = vec![Step::Attempt, Step::Delete(other)];
        steps.push(Step::Scan(prefix, keys));
        self.wait(&mut steps);
        steps.push(Step::Set(key, self.value()));
        self.witness(&mut steps);
        Task::Call(steps)
    }

    /// Looks again and again at a key that is about to expire, and at what `judge_expiry` writes.
    fn watch_expiry(&mut self) -> Vec<Task> {
        const LOOKS: usize = 16;
        let Some(key) = self.round.expiring_next() else {
            return vec![self.set_expiring()];
        };
        let judged = format!("j:{key}");
        vec![Task::Mget(vec![key, judged]); LOOKS]
    }

    /// A procedure that judges by a key that is about to expire.
    fn judge_expiry(&mut self) -> Task {
        let Some(key) = self.round.expiring_next() else {
            return self.set_expiring();
        };
        let judged = format!("j:{key}");
        let mut steps = vec![Step::Attempt, Step::Get(key)];
        steps.extend(vec![Step::Spin(255); 8]);
        steps.push(Step::Set(judged, self.value()));
        self.witness(&mut steps);
        Task::Call(steps)
    }

    /// A procedure that reads, waits for so long that the store folds what others commit meanwhile, and
    /// reads again: all of it must be of one moment.
    fn long_look(&mut self) -> Task {
        let looks: Vec<Step> = (0..6).map(|_| self.read_step()).collect();
        let mut steps = looks.clone();
        steps.push(Step::Pause(LONG_LOOK_TURNS));
        steps.extend(looks);
        steps.extend((0..6).map(|_| self.read_step()));
        if self.random.percent(70) {
            return Task::Peek(steps);
        }
        steps.insert(0, Step::Attempt);
        self.witness(&mut steps);
        Task::Call(steps)
    }

    fn wait(&mut self, steps: &mut Vec<Step>) {
        if self.random.percent(50) {
            let turns = u8::try_from(self.random.below(200)).unwrap_or(0);
            steps.push(Step::Spin(turns));
        }
    }

    /// A key that only this transaction writes: it tells its sequence, and whether it took place.
    fn witness(&mut self, steps: &mut Vec<Step>) {
        let value = self.value();
        steps.push(Step::Set(self.round.key("w", value), value));
    }

    fn read_step(&mut self) -> Step {
        if self.random.percent(35) {
            let (prefix, keys) = self.round.group(self.random.below(GROUPS));
            return Step::Scan(prefix, keys);
        }
        Step::Get(self.any_key())
    }

    fn point(&mut self) -> String {
        self.round.key("p", self.random.below(POINTS))
    }

    fn any_kept_key(&mut self) -> String {
        if self.random.percent(50) {
            return self.point();
        }
        let (_, keys) = self.round.group(self.random.below(GROUPS));
        self.random.pick(&keys).cloned().unwrap_or_default()
    }

    fn any_key(&mut self) -> String {
        if self.random.percent(30)
            && let Some(key) = self.round.recent(&mut self.random)
        {
            return key;
        }
        self.any_kept_key()
    }

    fn value(&self) -> u64 {
        self.round.number()
    }
}
