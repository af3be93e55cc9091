//! The fold: takes versions that every snapshot may see from memory to the index.
//!
//! A *pass* goes once over all unfolded keys, in order, so that neighbours meet in sled's pages, and
//! what was overwritten many times is written once. When it is through, everything that was committed
//! before it began is in the index, which is noted there; the log below is needed for a rebuild only.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::index::Progress;
use super::key::Key;
use super::shared::Shared;
use super::versions::Unfolded;
use crate::bugs::{Bug, is_seeded};
use crate::store::{Sequence, StoreError};

/// Keys that are folded in one go: few, so that who waits for room is let in soon.
const BATCH_KEYS: usize = 128;

/// Batches after which what was written meanwhile is put into few pieces: some milliseconds.
const MERGE_BATCHES: usize = 32;

/// How often the thread looks whether there is something to do.
const TICK: Duration = Duration::from_millis(20);

/// How many ticks versions lie in memory alone at the most, where snapshots let them go.
const MAX_IDLE_TICKS: u32 = 250;

/// How many ticks they do while nobody writes: a scan of what is folded takes a fifth of the time.
const MIN_IDLE_TICKS: u32 = 50;

/// After how many ticks without a commit nobody is taken to write.
const QUIET_TICKS: u32 = 10;

/// The fold's thread.
pub(super) fn run(shared: &Shared) {
    // What a kill left in the log counts as well.
    let mut folded_at = 0;
    let mut ticks = 0;
    let mut quiet = Quiet::default();
    while shared.sleep(TICK) {
        ticks += 1;
        let is_quiet = quiet.tick(shared.snapshots.visible());
        tick(shared);
        shared.versions.merge_runs();
        let is_asked = shared.wants_fold.swap(false, Ordering::AcqRel);
        let position = shared.journal.position();
        let is_due = position - folded_at >= shared.options.fold_log_bytes
            || shared.versions.unfolded_bytes() >= shared.options.fold_bytes
            || shared.versions.older_bytes() >= shared.options.max_history_bytes / 2
            || ticks >= MAX_IDLE_TICKS
            || ticks >= MIN_IDLE_TICKS && is_quiet;
        if !is_due && !is_asked {
            continue;
        }
        // sled does not get over a full disk.
        if shared.is_full.load(Ordering::Acquire) {
            continue;
        }
        ticks = 0;
        folded_at = position;
        if let Err(error) = pass(shared) {
            shared.doubt(&error);
            return;
        }
        shared.remove_log();
    }
}

/// For how long nobody has written.
#[derive(Default)]
struct Quiet {
    newest: Sequence,
    ticks: u32,
}

impl Quiet {
    /// Whether nobody has for a while, with this commit the newest.
    fn tick(&mut self, newest: Sequence) -> bool {
        self.ticks = match newest == self.newest {
            true => self.ticks.saturating_add(1),
            false => 0,
        };
        self.newest = newest;
        self.ticks >= QUIET_TICKS
    }
}

/// Lets the snapshots age by a tick.
fn tick(shared: &Shared) {
    let max_ticks = shared.options.max_snapshot_age.as_millis() / TICK.as_millis();
    let max_ticks = u64::try_from(max_ticks).unwrap_or(u64::MAX);
    let is_short = shared.versions.older_bytes() > shared.options.max_history_bytes;
    shared.snapshots.tick(max_ticks, is_short);
}

/// Goes once over everything that is unfolded.
fn pass(shared: &Shared) -> Result<(), StoreError> {
    let position = shared.journal.position();
    let floor = shared.snapshots.needed();
    if shared.applied() == floor {
        return Ok(());
    }
    if is_seeded(Bug::NoteAppliedTooEarly) {
        note(shared, floor)?;
    }
    let unfolded = shared.versions.begin_pass();
    // Where memory fills with new keys, writers will wait for the fold, which then takes a second
    // thread. Where the log asks for it, it should rather leave them the processors.
    let threads = match shared.versions.unfolded_bytes() >= shared.options.fold_bytes {
        true => 2,
        false => 1,
    };
    side_by_side(threads, &unfolded.keys, |keys| fold_part(shared, keys))?;
    if shared.is_ending() {
        // What is not folded now is taken from the log at the next start.
        return Ok(());
    }
    shared.versions.finish_pass(unfolded);
    note(shared, floor)?;
    shared.applied_position.store(position, Ordering::Release);
    shared.folds.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Gives each of so many threads a part of the items, which lie together.
pub(super) fn side_by_side<T: Sync>(
    threads: usize,
    items: &[T],
    work: impl Fn(&[T]) -> Result<(), StoreError> + Sync,
) -> Result<(), StoreError> {
    let part = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let mut parts = items.chunks(part);
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|part| scope.spawn(|| work(part))).collect();
        let mut done = work(first);
        for other in others {
            let failed = |_| StoreError::Storage("a thread that folds failed".to_owned());
            done = done.and(other.join().map_err(failed).flatten());
        }
        done
    })
}

/// Folds these keys, a few at a time, unless the store ends.
fn fold_part(shared: &Shared, keys: &[Key]) -> Result<(), StoreError> {
    for (batch, keys) in keys.chunks(BATCH_KEYS).enumerate() {
        if batch.is_multiple_of(MERGE_BATCHES) {
            shared.versions.merge_runs();
        }
        let needed = match is_seeded(Bug::FoldAboveOldestSnapshot) {
            true => shared.snapshots.visible(),
            false => shared.snapshots.needed(),
        };
        fold(shared, keys, needed)?;
        if shared.is_ending() {
            break;
        }
    }
    Ok(())
}

/// Folds these keys as far as `needed`.
pub(super) fn fold(shared: &Shared, keys: &[Key], needed: Sequence) -> Result<(), StoreError> {
    let batch: Vec<Unfolded> = keys
        .iter()
        .filter_map(|key| shared.versions.to_fold(key, needed))
        .collect();
    // A base that is being copied must know how new its rows may be before they are. The newest that is
    // needed by now counts, and not what was needed before the look: a version in between may have
    // been dropped for the one that replaced it, and the base is right only with that one.
    let needed = needed.max(shared.snapshots.needed());
    shared.folded_through.fetch_max(needed, Ordering::AcqRel);
    let is_forgotten = |unfolded: &&Unfolded| {
        unfolded.version.value.is_none() && is_seeded(Bug::ForgetFoldedDelete)
    };
    let parts = batch.iter().filter(|it| !is_forgotten(it));
    shared.index.fold_ordered(parts.map(Unfolded::parts))?;
    shared.versions.folded(&batch);
    shared.room.notify_waiters();
    Ok(())
}

/// Notes that the index has every commit at or below.
pub(super) fn note(shared: &Shared, applied: Sequence) -> Result<(), StoreError> {
    shared.index.note(Progress {
        store: shared.id,
        applied,
    })?;
    shared.applied.store(applied, Ordering::Release);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that had been filled was five seconds long as slow to scan as memory is, whether anybody wrote or not.
    #[test]
    fn nobody_is_taken_to_write_only_after_ticks_without_a_commit() {
        let mut quiet = Quiet::default();
        let ticks =
            |quiet: &mut Quiet, newest, count: u32| (0..count).map(|_| quiet.tick(newest)).last();
        assert_eq!(ticks(&mut quiet, 1, QUIET_TICKS), Some(false));
        assert!(quiet.tick(1));
        assert!(!quiet.tick(2), "somebody wrote");
        assert_eq!(ticks(&mut quiet, 2, QUIET_TICKS), Some(true));
    }
}
