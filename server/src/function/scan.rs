//! A call's scans: opened, gone on with step by step, and closed, by the handles that guests have.

use super::call::{Call, Stop};
use crate::store::{PageLimit, Snapshot};
use crate::transaction::{Scan, ScanOrder};

/// The most scans that one call may have open, so that a guest can't hold memory through them.
const MAX_OPEN_SCANS: usize = 16;

/// Rows that a scan fetches ahead at once.
const SCAN_PAGE_ROWS: usize = 256;

/// Bytes that a scan fetches ahead at once, about.
const SCAN_PAGE_BYTES: usize = 64 << 10;

/// A scan that a guest has open.
pub(super) struct OpenScan {
    scan: Scan,
    /// Rows that are still to be given out, at most `left`.
    left: u64,
}

/// How one step of a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStep {
    /// So many rows were taken; none where it only passed over expired and deleted keys, or where the next row was
    /// refused.
    Taken(u64),
    /// There was nothing more.
    End,
}

impl<S: Snapshot> Call<S> {
    /// Opens a scan and answers its handle.
    pub fn kv_scan(
        &mut self,
        start: &[u8],
        end: &[u8],
        limit: u32,
        flags: u32,
    ) -> Result<u32, Stop> {
        if flags & !3 != 0 {
            return Err(Stop::trap(format!("unknown flags {flags:#x}")));
        }
        self.transaction()?;
        self.check_scan(start, end)?;
        let order = if flags & 1 == 1 {
            ScanOrder::Descending
        } else {
            ScanOrder::Ascending
        };
        // Keys are shorter than this, so what lies behind it decides nothing, and need not be kept.
        let shortened =
            |bound: &'_ [u8]| bound.get(..=self.max_key_bytes).unwrap_or(bound).to_vec();
        let (start, end) = (shortened(start), shortened(end));
        let scan = Scan::new(&start, &end, order, flags & 2 == 2);
        // A limit of 0 means none.
        let left = if limit == 0 {
            u64::MAX
        } else {
            u64::from(limit)
        };
        let open = Some(OpenScan { scan, left });
        let free = match self.scans.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.scans.len() < MAX_OPEN_SCANS => {
                self.scans.push(None);
                self.scans.len() - 1
            }
            None => {
                return Err(Stop::trap(format!(
                    "{MAX_OPEN_SCANS} scans are open already"
                )));
            }
        };
        if let Some(slot) = self.scans.get_mut(free) {
            *slot = open;
        }
        Ok(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// One step of a scan: `take` gets rows, as key and value, until it refuses one, which comes first in the next
    /// step. Rows of about `cap` bytes are looked for.
    pub async fn kv_scan_step(
        &mut self,
        handle: u32,
        cap: usize,
        mut take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Result<ScanStep, Stop> {
        let place = self.open_scan(handle)?;
        let Some(mut open) = place.take_if(|open| open.left > 0 && !open.scan.is_done()) else {
            return Ok(ScanStep::End);
        };
        let rows = usize::try_from(open.left).unwrap_or(usize::MAX);
        let limit = PageLimit {
            rows: rows.min(SCAN_PAGE_ROWS),
            bytes: cap.min(SCAN_PAGE_BYTES),
        };
        let mut taken = 0;
        let counting = |key: &[u8], value: &[u8]| {
            let is_taken = take(key, value);
            taken += u64::from(is_taken);
            is_taken
        };
        // Where it fails the call is at its end, and its scans with it.
        let transaction = self.transaction()?;
        transaction.visit(&mut open.scan, limit, counting).await?;
        open.left = open.left.saturating_sub(taken);
        if let Some(place) = self.place_of_scan(handle) {
            *place = Some(open);
        }
        Ok(ScanStep::Taken(taken))
    }

    /// Closes a scan.
    pub fn kv_scan_close(&mut self, handle: u32) -> Result<(), Stop> {
        *self.open_scan(handle)? = None;
        Ok(())
    }

    /// The place of a scan that is open.
    fn open_scan(&mut self, handle: u32) -> Result<&mut Option<OpenScan>, Stop> {
        self.check_running()?;
        let place = self.place_of_scan(handle);
        let place = place.filter(|place| place.is_some());
        place.ok_or_else(|| Stop::trap(format!("{handle} is no open scan")))
    }

    fn place_of_scan(&mut self, handle: u32) -> Option<&mut Option<OpenScan>> {
        self.scans.get_mut(handle as usize)
    }
}
