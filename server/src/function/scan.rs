//! A call's scans: opened, gone on with step by step, and closed, by the handles that guests have.

use super::call::{Call, Stop};
use crate::store::{PageLimit, Snapshot};
use crate::transaction::{Row, Scan, ScanOrder};

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

/// What one step of a scan came upon.
pub enum ScanStep {
    /// Rows; none where the step only passed over expired and deleted keys.
    Rows(Vec<Row>),
    /// Nothing more.
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

    /// One step of a scan: rows that may fit into `cap` bytes, or where there are none, whether the
    /// scan is at its end. The caller says afterwards with [`Call::kv_scan_taken`] how many rows it
    /// has taken.
    pub async fn kv_scan_step(&mut self, handle: u32, cap: usize) -> Result<ScanStep, Stop> {
        let open = self.open_scan(handle)?;
        let (mut scan, left) = (open.scan.clone(), open.left);
        if left == 0 || scan.is_done() {
            return Ok(ScanStep::End);
        }
        let rows = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(SCAN_PAGE_ROWS);
        let limit = PageLimit {
            rows,
            bytes: cap.min(SCAN_PAGE_BYTES),
        };
        let rows = self.transaction()?.scan(&mut scan, limit).await?;
        if rows.is_empty() {
            self.open_scan(handle)?.scan = scan;
        }
        Ok(ScanStep::Rows(rows))
    }

    /// Moves a scan behind the rows that were taken, `last` being the last of `count`.
    pub fn kv_scan_taken(&mut self, handle: u32, last: &[u8], count: usize) -> Result<(), Stop> {
        let open = self.open_scan(handle)?;
        open.scan.skip_to(last);
        open.left = open.left.saturating_sub(count as u64);
        Ok(())
    }

    /// Closes a scan.
    pub fn kv_scan_close(&mut self, handle: u32) -> Result<(), Stop> {
        self.open_scan(handle)?;
        if let Some(slot) = self.scans.get_mut(handle as usize) {
            *slot = None;
        }
        Ok(())
    }

    fn open_scan(&mut self, handle: u32) -> Result<&mut OpenScan, Stop> {
        self.check_running()?;
        self.scans
            .get_mut(handle as usize)
            .and_then(Option::as_mut)
            .ok_or_else(|| Stop::trap(format!("{handle} is no open scan")))
    }
}
