//! What waits for the feed's thread: what an operator wants, new settings, how far a bisection has come; and
//! what the delivery is asked for.

use tokio::sync::{oneshot, watch};

use super::{Asked, Asks, Condition, Halved, Progress, RELEASES_MAX, WISHES_MAX};
use crate::{
    config::SinkConfig,
    model::{
        letter::Split,
        sink::{
            Release,
            wish::{By, Denied, Granted, Wish},
        },
    },
};

impl Progress {
    /// Asks the feed to book what is parked of an order as it is: how many records. They are still
    /// parked until the seal that books them, so that a crash before it needs another request.
    pub fn release(&self, order_id: &str) -> Release {
        let mut inner = self.inner.lock();
        let parked = inner.parked_views.iter().filter(|view| view.order_id == order_id).count();
        if parked == 0 {
            return Release::NothingParked;
        }
        if !inner.releases.iter().any(|asked| asked == order_id) {
            if inner.releases.len() == RELEASES_MAX {
                return Release::TooMany;
            }
            inner.releases.push_back(order_id.to_owned());
        }
        drop(inner);
        self.changed.notify_all();
        Release::Asked { records: parked as u64 }
    }

    /// An order whose parked records are to be released.
    pub(in crate::feed) fn next_release(&self) -> Option<String> {
        self.inner.lock().releases.front().cloned()
    }

    /// They are.
    pub(in crate::feed) fn released(&self, order_id: &str) {
        self.inner.lock().releases.retain(|asked| asked != order_id);
    }

    /// Asks the feed for something; the answer comes when it is durable. No answer: the sink ended.
    pub fn wish(&self, wish: Wish, by: By) -> oneshot::Receiver<Result<Granted, Denied>> {
        let (answer, told) = oneshot::channel();
        let mut inner = self.inner.lock();
        let broken = matches!(inner.condition, Condition::Broken(_));
        let denied = match inner.wishes.len() {
            _ if inner.stopping || broken => Some(Denied::Stopped),
            WISHES_MAX.. => Some(Denied::TooMany(WISHES_MAX)),
            _ => None,
        };
        match denied {
            // Whoever asked may be gone.
            Some(denied) => drop(answer.send(Err(denied))),
            None => inner.wishes.push_back(Asked { wish, by, answer }),
        }
        drop(inner);
        self.changed.notify_all();
        told
    }

    /// From here on the feed goes by these settings, which differ in those alone that a running one takes.
    pub(crate) fn set_config(&self, config: SinkConfig) {
        self.inner.lock().config = Some(Box::new(config));
        self.changed.notify_all();
    }

    /// Settings that the feed does not go by yet.
    pub(in crate::feed) fn next_config(&self) -> Option<SinkConfig> {
        self.inner.lock().config.take().map(|config| *config)
    }

    pub(in crate::feed) fn next_wish(&self) -> Option<Asked> {
        self.inner.lock().wishes.pop_front()
    }

    /// What the delivery is asked for, now and when it changes.
    pub fn asks(&self) -> watch::Receiver<Asks> {
        self.asks.subscribe()
    }

    /// How far the bisection of a batch has come. Answered with true when that is durable, and with false
    /// if the log can't take it; not at all if the feed has ended.
    pub fn report_split(&self, split: Split) -> oneshot::Receiver<bool> {
        let (answer, told) = oneshot::channel();
        let mut inner = self.inner.lock();
        // Bounded by the batches in flight: each waits for its own. A feed that ended answers nothing.
        if !inner.stopping && !matches!(inner.condition, Condition::Broken(_)) {
            inner.splits.push_back(Halved { split, answer });
        }
        drop(inner);
        self.changed.notify_all();
        told
    }

    pub(in crate::feed) fn next_split(&self) -> Option<Halved> {
        self.inner.lock().splits.pop_front()
    }
}
