//! The clock by which an HTTP/1.1 connection is closed whose next head does not come.
//!
//! A head's time begins with each request, and with the usual timer so does a timer: made, put into the
//! runtime's wheel and taken out again, for a deadline that is nearly never reached; 1 to 2 µs of processor a
//! request. Here a connection has one timer for all of its heads, which is set anew only when it rings: then, if
//! the head that is waited for has time left.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;
use tokio::time::{self, sleep_until};

type Clock = Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>;

/// See the module. Made for one connection; each of its deadlines is no earlier than the one before.
#[derive(Default)]
pub(super) struct HeadTimer(Clock);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep { deadline: deadline.into(), clock: self.0.clone() })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into()
    }
}

/// Over once the deadline of one head has passed.
struct HeadSleep {
    deadline: time::Instant,
    clock: Clock,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let mut clock = self.clock.lock();
        let sleep = clock.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            // It rang for an earlier head.
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    /// Polls once.
    async fn is_over(sleep: &mut Pin<Box<dyn Sleep>>) -> bool {
        poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_own_time() {
        let timer = HeadTimer::default();
        let began = time::Instant::now();
        let mut first = timer.sleep(TIME);
        assert!(!is_over(&mut first).await);
        drop(first);
        // The next begins later, and the clock still stands at the first.
        time::advance(TIME / 2).await;
        let mut second = timer.sleep(TIME);
        assert!(!is_over(&mut second).await);
        second.await;
        assert_eq!(began.elapsed().as_secs(), 15);
        // After a long request the clock has rung already.
        time::advance(TIME * 9).await;
        let mut third = timer.sleep(TIME);
        assert!(!is_over(&mut third).await);
        third.await;
        assert_eq!(began.elapsed().as_secs(), 115);
    }
}
