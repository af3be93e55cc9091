//! Scans: what memory knows and what the index has, as one page.

use bytes::Bytes;

use super::index::IndexPage;
use super::shared::Shared;
use super::versions::Known;
use crate::store::{Entry, KeyRange, Page, PageLimit, Sequence, StoreError, successor};

impl Shared {
    /// Rows that a snapshot sees. Memory is looked at before the index, for the reason that the head of
    /// this module's parent tells.
    pub(super) fn page(
        &self,
        range: &KeyRange,
        is_reverse: bool,
        keys_only: bool,
        limit: PageLimit,
        snapshot: Sequence,
    ) -> Result<Page, StoreError> {
        let (keys, is_all) = self
            .versions
            .unfolded_keys(range, is_reverse, limit.rows.max(1));
        let mut range = range.clone();
        if !is_all && let Some(last) = keys.last() {
            // The page speaks for what both have been asked for.
            if is_reverse {
                range.start = last.clone();
            } else {
                range.end = successor(last);
            }
        }
        let known: Vec<(Bytes, Option<Entry>)> = keys
            .into_iter()
            .filter_map(|key| match self.versions.get(&key, snapshot) {
                Known::Seen(entry) => Some((key, entry)),
                Known::InIndex => None,
            })
            .collect();
        let found = self.trusting(self.index.page(&range, is_reverse, keys_only, limit))?;
        let IndexPage {
            rows,
            faults,
            is_exhausted,
        } = found;
        let reached = match rows.last() {
            Some((last, _)) if !is_exhausted => Some(last.clone()),
            _ if is_all => None,
            _ if is_reverse => Some(range.start),
            _ => known_end(&range),
        };
        let rows = merge(rows, faults, known, reached.as_ref(), is_reverse)?;
        let mut page = Page { rows, reached };
        cut(&mut page, limit);
        Ok(page)
    }
}

/// Lets go of rows beyond the limit: the index has kept to it, and memory may have added to it.
fn cut(page: &mut Page, limit: PageLimit) {
    let mut bytes = 0;
    let mut is_within = |(key, entry): &(Bytes, Entry)| {
        bytes += key.len() + entry.value.len();
        bytes <= limit.bytes
    };
    let within = page.rows.iter().take_while(|row| is_within(row)).count();
    let kept = within.clamp(1, limit.rows.max(1));
    if kept < page.rows.len() {
        page.rows.truncate(kept);
        page.reached = page.rows.last().map(|(key, _)| key.clone());
    }
}

/// The key whose successor ends the range.
fn known_end(range: &KeyRange) -> Option<Bytes> {
    let last = range.end.len().checked_sub(1)?;
    Some(range.end.slice(..last))
}

/// Joins two ordered rows of keys; what memory knows overrules the index, and what is wrong with a row
/// that it overrules does not matter.
fn merge(
    rows: Vec<(Bytes, Entry)>,
    faults: Vec<(usize, StoreError)>,
    known: Vec<(Bytes, Option<Entry>)>,
    reached: Option<&Bytes>,
    is_reverse: bool,
) -> Result<Vec<(Bytes, Entry)>, StoreError> {
    for (at, fault) in faults {
        let key = rows.get(at).map(|(key, _)| key);
        if !known.iter().any(|(known, _)| Some(known) == key) {
            return Err(fault);
        }
    }
    if known.is_empty() {
        return Ok(rows);
    }
    let is_before = |left: &Bytes, right: &Bytes| {
        if is_reverse {
            left > right
        } else {
            left < right
        }
    };
    let is_within = |key: &Bytes| reached.is_none_or(|reached| !is_before(reached, key));
    let mut merged = Vec::with_capacity(rows.len() + known.len());
    let mut known = known
        .into_iter()
        .take_while(|(key, _)| is_within(key))
        .peekable();
    for (key, entry) in rows {
        while let Some((known_key, known_entry)) = known.next_if(|it| is_before(&it.0, &key)) {
            merged.extend(known_entry.map(|entry| (known_key, entry)));
        }
        match known.next_if(|it| it.0 == key) {
            Some((_, known_entry)) => merged.extend(known_entry.map(|entry| (key, entry))),
            None => merged.push((key, entry)),
        }
    }
    merged.extend(known.filter_map(|(key, entry)| Some((key, entry?))));
    Ok(merged)
}
