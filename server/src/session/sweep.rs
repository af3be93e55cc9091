//! The sweeper: removes keys whose time has come, by small transactions like any other. Reads never
//! depend on it; it gives room back, and lets those who watch know.

use std::time::Duration;

use crate::function::Runtime;
use crate::store::{Decision, Entry, Millis, Sequence, Store, StoreError, Target, Write};

use super::Core;

/// How often the sweeper looks for keys.
const PAUSE: Duration = Duration::from_millis(100);

/// Keys that are looked up at once. Each is a commit of its own, so that no other waits for many.
const MAX_KEYS: usize = 256;

/// Sweeps for as long as it is polled.
pub async fn sweep<S: Store, R: Runtime<S::Snapshot>>(core: &Core<S, R>) {
    loop {
        match sweep_once(core).await {
            // There may be more.
            Ok(MAX_KEYS..) => tokio::task::yield_now().await,
            Ok(_) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                // Full disks come and go; a store that failed says so elsewhere.
                tracing::debug!(%error, "expired keys can't be removed now");
                tokio::time::sleep(PAUSE * 10).await;
            }
        }
    }
}

/// Removes some of the keys whose time has come; answers how many it looked at.
///
/// # Errors
/// The store takes no writes now.
pub async fn sweep_once<S: Store, R: Runtime<S::Snapshot>>(
    core: &Core<S, R>,
) -> Result<usize, StoreError> {
    let due = core.store.expired(MAX_KEYS).await?;
    for key in &due {
        let _permit = core.coordinator.shared().await;
        let target = Target {
            key,
            looks: true,
            // Nobody waits for it: should it be lost, it is done again.
            durable: false,
        };
        core.store.evaluate(target, expire).await?;
    }
    Ok(due.len())
}

fn expire(entry: Option<Entry>, _newest: Sequence, now_ms: Millis) -> Decision<()> {
    let is_due = entry.is_some_and(|it| it.expires_ms != 0 && it.expires_ms <= now_ms);
    Decision {
        write: is_due.then_some(Write::Expire),
        outcome: (),
    }
}
