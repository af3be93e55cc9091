//! The last word to a peer that is refused, and time for it to arrive.

use std::time::Duration;

use luge_protocol::{ErrorCode, ErrorReply, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::replies;

/// How long a refused peer may go on sending before it is cut off. Without it, a reset could
/// overtake the refusal.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// What a peer is told whose time is over.
pub(super) fn too_late(what: &str, limit: Duration) -> Vec<u8> {
    let message = format!("{what} within {limit:?}; the connection is closed");
    refusal(ErrorCode::DeadlineExceeded, message)
}

/// A refusal that belongs to no request, as a frame.
pub(super) fn refusal(code: ErrorCode, message: String) -> Vec<u8> {
    farewell(ErrorReply::new(code, message))
}

/// A refusal as a frame.
pub(super) fn farewell(error: ErrorReply) -> Vec<u8> {
    let outcome = Err(error);
    replies::encode(Response { id: 0, outcome }, usize::MAX)
}

/// Says the last word, and reads on for a moment so that it arrives.
pub(super) async fn say_farewell(
    source: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl AsyncWrite + Unpin),
    farewell: &[u8],
    patience: Duration,
) {
    let said = timeout(patience, async {
        sink.write_all(farewell).await?;
        sink.shutdown().await
    });
    if !matches!(said.await, Ok(Ok(()))) {
        return;
    }
    let mut ignored = [0; 4096];
    let deadline = Instant::now() + LINGER;
    while let Ok(Ok(1..)) = timeout_at(deadline, source.read(&mut ignored)).await {}
}
