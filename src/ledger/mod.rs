//! The ledger: positions, reservations, idempotency keys, limits, orders and timers, in memory only.
//! It knows no log: the engine joins the two under law 1 (take before the log, give after the log).
//!
//! Everything here has a limit that is set when it is made, and refuses at it. Looking a key up,
//! reading a position and refusing for lack of stock take no lock.

pub mod keys;
pub mod limits;
mod memory;
pub mod names;
pub mod orders;
pub mod parked;
pub mod partners;
pub mod positions;
pub mod reservations;
pub mod slab;
pub mod stripe;
pub(crate) mod sync;
pub mod wheel;
pub mod word;
