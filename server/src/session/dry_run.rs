//! Dry runs: a call that runs to its end, and then tells what it would have written.

use bytes::Bytes;
use luge_protocol::{CallReply, DryRunReply, DryRunWrite, Reply};

use crate::function::Usage;
use crate::store::{Snapshot, Write};
use crate::transaction::{Keyspace, Transaction};

/// Keys that a dry run lists.
const MAX_WRITES: usize = 1_000;

/// Bytes of keys and values that it lists, where a frame has as much room beside the output.
const MAX_WRITE_BYTES: usize = 4 << 20;

/// What the reply takes beside the output and the writes, and what each write takes beside its bytes.
const REPLY_BYTES: usize = 1024;
const WRITE_BYTES: usize = 24;

/// Whether a key with its value may be listed beside what is listed already.
struct Room {
    keys: usize,
    bytes: usize,
}

/// What a call is answered that was not to write. `reply` is what it would have been answered.
pub(super) fn reply<S: Snapshot>(
    reply: Reply,
    transaction: Transaction<S>,
    usage: &Usage,
    max_frame_bytes: usize,
) -> Reply {
    let output = match reply {
        Reply::Call(CallReply(output)) => output,
        _ => Bytes::new(),
    };
    let (_, commit) = transaction.into_commit(false);
    let all = commit.writes.len();
    let mut room = Room {
        keys: MAX_WRITES,
        bytes: max_frame_bytes
            .saturating_sub(output.len() + REPLY_BYTES)
            .min(MAX_WRITE_BYTES),
    };
    let writes: Vec<DryRunWrite> = commit
        .writes
        .into_iter()
        .map(|(place, write)| told(&place, write))
        .take_while(|write| room.takes(write))
        .collect();
    Reply::DryRun(Box::new(DryRunReply {
        output,
        more: (all - writes.len()) as u64,
        writes,
        fuel: usage.fuel,
        cpu_us: u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX),
        memory_bytes: usage.memory_bytes as u64,
    }))
}

impl Room {
    fn takes(&mut self, DryRunWrite(key, value, _): &DryRunWrite) -> bool {
        let bytes = WRITE_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len);
        let is_room = self.keys > 0 && bytes <= self.bytes;
        if is_room {
            self.keys -= 1;
            self.bytes -= bytes;
        }
        is_room
    }
}

fn told(place: &Bytes, write: Write) -> DryRunWrite {
    let key = Keyspace::strip(place);
    match write {
        Write::Put { value, expires_ms } => DryRunWrite(key, Some(value), expires_ms),
        Write::Delete | Write::Expire => DryRunWrite(key, None, 0),
    }
}
