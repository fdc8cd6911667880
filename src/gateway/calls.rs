//! Calls of routes that are under way, and those that were answered: the only thing of a connection
//! that other threads touch.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{bell::Bell, house::Reply};

/// The calls of one connection.
pub(super) struct Calls {
    bell: Arc<Bell>,
    answered: Arc<Mutex<Vec<(u64, Reply)>>>,
    under_way: usize,
}

/// A call's way back. Dropped unused, it answers that the outcome is not known.
pub(super) struct Return {
    id: u64,
    bell: Arc<Bell>,
    answered: Arc<Mutex<Vec<(u64, Reply)>>>,
    used: bool,
}

impl Return {
    pub(super) fn reply(mut self, reply: Reply) {
        self.send(reply);
    }

    fn send(&mut self, reply: Reply) {
        self.used = true;
        self.answered.lock().push((self.id, reply));
        self.bell.ring();
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        if !self.used {
            let body = b"{\"code\":\"outcome_unknown\"}".to_vec();
            self.send(Reply { status: 504, replayed: false, body });
        }
    }
}

impl Calls {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { bell, answered: Arc::default(), under_way: 0 }
    }

    /// Calls that are not answered yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// A new call's way back.
    pub(super) fn begin(&mut self, id: u64) -> Return {
        self.under_way += 1;
        Return { id, bell: self.bell.clone(), answered: self.answered.clone(), used: false }
    }

    /// Whether a reply is there.
    pub(super) fn has_replies(&self) -> bool {
        self.under_way > 0 && !self.answered.lock().is_empty()
    }

    /// Takes the replies that are there.
    pub(super) fn replies(&mut self) -> Vec<(u64, Reply)> {
        if self.under_way == 0 {
            return Vec::new();
        }
        let replies = std::mem::take(&mut *self.answered.lock());
        self.under_way -= replies.len();
        replies
    }
}
