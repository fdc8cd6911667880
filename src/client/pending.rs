//! A request that is under way, and who waits for it.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{Error, Reply};

/// Where an answer is left.
#[derive(Default)]
pub(super) struct Slot {
    said: Mutex<Option<Result<Reply, Error>>>,
    bell: Condvar,
}

impl Slot {
    pub(super) fn say(&self, said: Result<Reply, Error>) {
        *self.said.lock() = Some(said);
        self.bell.notify_one();
    }
}

/// An answer that will come. Dropped, it is not waited for; what was asked is done all the same.
#[must_use = "the answer tells whether it was done"]
pub struct Pending(pub(super) Arc<Slot>);

impl Pending {
    /// Waits for it.
    ///
    /// # Errors
    /// The refusal; or if the connection broke, and then it may have been done.
    pub fn wait(self) -> Result<Reply, Error> {
        let mut said = self.0.said.lock();
        loop {
            match said.take() {
                Some(said) => return said,
                None => self.0.bell.wait(&mut said),
            }
        }
    }

    /// Takes it if it is there.
    pub fn take(&self) -> Option<Result<Reply, Error>> {
        self.0.said.lock().take()
    }
}
