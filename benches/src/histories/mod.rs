//! Histories of transactions, and whether they are strictly serializable.
//!
//! ```text
//!   history     what each operation was asked, saw and wrote, and when
//!   versions    the values of each key in their order, and who read which of them
//!   graph       who must come before whom; cycles in it
//!   checker     puts them together, and names what it finds
//! ```
//!
//! The method is that of Adya's thesis and of Elle: from what clients saw follows who must come
//! before whom in any serial order, and a cycle proves that there is none. Every value is written
//! once, so a read tells which write it saw; the server tells each commit's sequence, so the order of
//! the writes is known and need not be guessed. A wrong sequence can't hide an anomaly: were there no
//! serial order, every order of the writes would give a cycle.

pub mod checker;
pub mod graph;
pub mod history;
pub mod versions;

pub use checker::{Anomaly, Figures, check};
pub use history::{History, Operation, Outcome, Read, Seen, Write};
