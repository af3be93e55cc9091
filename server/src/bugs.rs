//! Bugs that are planted on purpose, so that the programs that hunt for bugs can show that they find them.
//!
//! Without the feature `seeded-bugs` there are none: [`is_seeded`] is `false` at compile time, and
//! what stands behind it is not in the binary.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A commit forgets the keys that it read.
    DropPoints = 1,
    /// A commit forgets the ranges that it read.
    DropRanges,
    /// A range counts as read up to the last row that was found, and not to its end.
    RangeToLastRow,
    /// What a delete looked up is not recorded as read.
    UnrecordedDelete,
    /// A point read does not see the transaction's own writes.
    GetWithoutOwnWrites,
    /// A scan does not see the transaction's own writes.
    ScanWithoutOwnWrites,
    /// Going back to a savepoint undoes nothing.
    UndoNothing,
    /// What the commands of a refused request wrote stays.
    KeepFailedCommand,
    /// What request hooks wrote is undone with the command that failed.
    LoseHookWrites,
    /// From the second attempt on a commit is not validated.
    TrustRetries,
    /// A commit stands although a key that it read as live has expired.
    IgnoreExpiryAtCommit,
    /// A point read sees keys for a while after they expired.
    LateExpiryInGet,
    /// A session's plain reads may miss its own last write.
    ForgetLastWrite,
    /// Replies leave before the store has acked what they tell.
    ReplyBeforeGate,
    /// A module that was pushed is not stored.
    ForgetModule,
    /// A module that was removed stays in the store.
    KeepRemovedModule,
    /// A snapshot misses the newest commit that it claims to show.
    SnapshotOffByOne,
    /// Keys that were read are not validated.
    SkipPointValidation,
    /// Ranges that were read are not validated.
    SkipRangeValidation,
    /// A command of one key is decided on the newest acked entry, and not on the newest.
    DecideOnAcked,
    /// Versions that an open snapshot sees are dropped when they are replaced.
    ForgetOlderVersions,
    /// After a key that the index has was written again, memory is taken for all that there is of it.
    KeepWhole,
    /// A key that the index has is not put into the order when it is written again.
    LostOrderEntry,
    /// A read fills the cache although a commit has put something newer there meanwhile.
    StaleCacheFill,
    /// What scans keep of the index stays although a fold has changed it.
    KeepStretches,
    /// Commits are folded that an open snapshot must not see.
    FoldAboveOldestSnapshot,
    /// Deletions are not folded.
    ForgetFoldedDelete,
    /// The index is noted as having commits before it has them.
    NoteAppliedTooEarly,
    /// A commit is acknowledged before it is synced.
    AckBeforeSync,
    /// A base is finished before the log that it needs is synced.
    BaseBeforeSync,
    /// Log is removed that a rebuild from the base needs.
    RemoveLogTooEarly,
}

impl Bug {
    /// Every bug.
    pub const ALL: &[Self] = &[
        Self::DropPoints,
        Self::DropRanges,
        Self::RangeToLastRow,
        Self::UnrecordedDelete,
        Self::GetWithoutOwnWrites,
        Self::ScanWithoutOwnWrites,
        Self::UndoNothing,
        Self::KeepFailedCommand,
        Self::LoseHookWrites,
        Self::TrustRetries,
        Self::IgnoreExpiryAtCommit,
        Self::LateExpiryInGet,
        Self::ForgetLastWrite,
        Self::ReplyBeforeGate,
        Self::ForgetModule,
        Self::KeepRemovedModule,
        Self::SnapshotOffByOne,
        Self::SkipPointValidation,
        Self::SkipRangeValidation,
        Self::DecideOnAcked,
        Self::ForgetOlderVersions,
        Self::KeepWhole,
        Self::LostOrderEntry,
        Self::StaleCacheFill,
        Self::KeepStretches,
        Self::FoldAboveOldestSnapshot,
        Self::ForgetFoldedDelete,
        Self::NoteAppliedTooEarly,
        Self::AckBeforeSync,
        Self::BaseBeforeSync,
        Self::RemoveLogTooEarly,
    ];

    /// The bug of this name, which is that of its variant.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let bugs = Self::ALL.iter().copied();
        bugs.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

#[cfg(feature = "seeded-bugs")]
static SEEDED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants one bug in this process in place of the one before, or none.
#[cfg(feature = "seeded-bugs")]
pub fn seed(bug: Option<Bug>) {
    let number = bug.map_or(0, |bug| bug as u8);
    SEEDED.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is planted.
#[cfg(feature = "seeded-bugs")]
#[must_use]
pub fn is_seeded(bug: Bug) -> bool {
    SEEDED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this bug is planted: never, without the feature.
#[cfg(not(feature = "seeded-bugs"))]
#[must_use]
#[inline(always)]
pub const fn is_seeded(_bug: Bug) -> bool {
    false
}
