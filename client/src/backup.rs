//! Backups: a copy of the whole store, as it is at one moment.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{Command, NoArguments};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::builder::within;
use crate::client::Client;
use crate::error::Error;
use crate::stream::{Excess, Next, Stream};

impl Client {
    /// Writes a copy of the store, as it is at some moment before the copy's end, and answers its
    /// length in bytes. `luge-server restore` makes a store of it. It is whole if and only if this
    /// returns without an error; the writer is flushed then, and a file still needs its sync.
    ///
    /// While the writer is slow, other requests on this connection wait: a backup has best a
    /// connection of its own.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), luge_client::Error> {
    /// # let server = luge_server::testing::start().await;
    /// # let client = luge_client::Client::connect(server.address()).await?;
    /// let mut copy = Vec::new();
    /// let bytes = client.backup(&mut copy).await?;
    /// assert_eq!(bytes, copy.len() as u64);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::request`], for each piece; `overloaded` where it was taken too slowly while much
    /// was written, [`Error::Write`] where the writer failed.
    pub async fn backup<W: AsyncWrite + Unpin>(&self, writer: &mut W) -> Result<u64, Error> {
        let failed = |error| Error::Write(Arc::new(error));
        let command = Command::Backup(NoArguments {});
        let mut stream = Stream::open(self, command, Excess::Wait).await?;
        let mut written = 0;
        loop {
            match within(self.request_timeout, stream.next::<Bytes>()).await? {
                Next::Event(piece) => {
                    writer.write_all(&piece).await.map_err(failed)?;
                    written += piece.len() as u64;
                }
                Next::End => break,
                Next::Lost => return Err(Error::Closed),
            }
        }
        writer.flush().await.map_err(failed)?;
        Ok(written)
    }
}
