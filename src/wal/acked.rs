//! How one learns that a record is acknowledged, or why it never will be: as a future that may be
//! dropped at any time, or by blocking the thread.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use super::{append::Ack, error::Poisoned, log::Log, storage::Storage};
use crate::model::Lsn;

impl<S: Storage> Log<S> {
    /// Returns once a record is acknowledged at the configured level. May be dropped at any time.
    pub async fn wait(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_at(self.inner().options.ack, lsn).await
    }

    /// Returns once a record is on the disk, whatever the configured level. May be dropped at any time.
    pub async fn wait_durable(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.wait_at(Ack::Disk, lsn).await
    }

    async fn wait_at(&self, ack: Ack, lsn: Lsn) -> Result<(), Poisoned> {
        let mut registered = None;
        poll_fn(|cx| self.poll_at(ack, lsn, &mut registered, cx)).await
    }

    fn poll_at(
        &self,
        ack: Ack,
        lsn: Lsn,
        registered: &mut Option<Waker>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Poisoned>> {
        let poll = self.core().poll_passed(ack, lsn.0, registered, cx);
        poll.map_err(|_| self.inner().why())
    }

    /// Like [`Log::wait`], blocking the thread.
    pub fn wait_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.block(self.inner().options.ack, lsn, None).map(drop)
    }

    /// Like [`Log::wait_durable`], blocking the thread.
    pub fn wait_durable_blocking(&self, lsn: Lsn) -> Result<(), Poisoned> {
        self.block(Ack::Disk, lsn, None).map(drop)
    }

    /// Like [`Log::wait_durable_blocking`], for at most so long; false if it is not durable by then.
    pub fn wait_durable_timeout(&self, lsn: Lsn, timeout: Duration) -> Result<bool, Poisoned> {
        self.block(Ack::Disk, lsn, Some(Instant::now() + timeout))
    }

    fn block(&self, ack: Ack, lsn: Lsn, deadline: Option<Instant>) -> Result<bool, Poisoned> {
        if lsn.0 < self.core().acked(ack) {
            return Ok(true);
        }
        let waker = my_waker();
        let mut cx = Context::from_waker(&waker);
        let mut registered = None;
        loop {
            if let Poll::Ready(result) = self.poll_at(ack, lsn, &mut registered, &mut cx) {
                return result.map(|()| true);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return Ok(false),
                Some(left) => thread::park_timeout(left),
            }
        }
    }

    /// Returns when it stops, with the reason.
    pub async fn wait_poisoned(&self) -> Poisoned {
        let inner = self.inner();
        let mut registered: Option<Waker> = None;
        poll_fn(|cx| {
            if let Some(poisoned) = inner.poisoned() {
                return Poll::Ready(poisoned);
            }
            if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            registered = Some(cx.waker().clone());
            inner.poison_waiters.register(0, cx.waker().clone(), || inner.poisoned().is_some());
            inner.poisoned().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn my_waker() -> Waker {
    thread_local! {
        static MINE: Waker = Arc::new(Unpark(thread::current())).into();
    }
    MINE.with(Clone::clone)
}
