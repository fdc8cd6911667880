//! The write-ahead log: what is in it has happened, and what is not has not.
//!
//! # Constraints
//!
//! - Many threads append, each in its own request, without a queue, a lock, or a wait.
//! - A record is whole or absent. A record that was acknowledged is found again, as long as the disk
//!   keeps what it was made to sync; a record that nobody appended is never found.
//! - Damage to what was durable is never taken for the end of the log.
//! - The disk's end is met before anything is taken: at the ticket, and with room left for whatever
//!   closes what is open. A store to a mapped page never meets a hole.
//!
//! # Layout
//!
//! The log is one row of bytes, cut into segments of one size, each a file: a header of 4096 bytes
//! (`segment`) and the payload. A position ([`Lsn`](crate::model::Lsn)) counts payload bytes, so a shift
//! and a mask find the segment and the place in it. Records (`record`) stand at multiples of eight and
//! never cross a segment's end. Marks (`mark`) stand between them.
//!
//! # Operation
//!
//! [`Log::ticket`] -> build a [`Draft`] -> [`Ticket::append`] -> [`Log::wait`]. One background thread
//! syncs groups (`commit`): with `ack = "disk"` a segment is mapped privately, and a sync writes the group
//! from there with one durable write; with `ack = "memory"` it is mapped shared (`storage`). One makes
//! segments ahead and takes them back (`provision`). Readers follow what is durable (`read`). Opening
//! (`recover`) tells a tear from rot. Checkpoints (`checkpoint`) are sorted files beside the log. What is
//! full and durable is archived (`archive`) before it is recycled. A backup (`backup`) copies log and
//! checkpoint while the log goes on; what is restored from one is a new life (`lives`).
//!
//! # Faults survived
//!
//! A killed process and a lost machine at any moment, opening included: unsynced pages lost or torn in
//! any subset and order, unsynced names lost. A full disk. A failed sync: the log stops, and nothing is
//! acknowledged after it. Not survived, but noticed: rot of anything that a mark covers, or that is
//! read. Not told from a tear: rot in the very last acknowledged group, before the next mark is written.

mod acked;
mod append;
pub mod archive;
pub mod backup;
pub mod checkpoint;
mod commit;
mod counters;
mod error;
mod image;
mod inner;
pub mod inspect;
mod lives;
mod log;
mod mark;
mod options;
mod provision;
mod read;
mod record;
mod recover;
mod ring;
mod room;
mod sample;
mod segment;
mod signal;
mod slice;
pub mod storage;
mod sync;
mod wait;

pub use append::Ack;
pub use counters::Stats;
pub use error::{Error, NoRoom, Poisoned};
pub use log::{Log, Ticket};
pub use options::Options;
pub use read::{Pinned, Reader};
pub use record::{Draft, HEADER_BYTES, KIND_OWN_MIN, Record};
pub use room::RoomClass;
pub use sample::{APPENDS_A_SAMPLE, AppendSample, Timings};
pub use storage::{FileStorage, Storage, sim};

#[cfg(target_endian = "big")]
compile_error!("the log's files are little-endian and are mapped as they are");

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}
