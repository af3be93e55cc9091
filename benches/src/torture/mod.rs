//! What a server that is killed owes its clients: a ledger of what each connection was told.

pub mod ledger;
pub mod state;

pub use ledger::{Ledger, Loss, Write};
pub use state::State;
