//! A small number for each thread, so that threads that run at the same time can keep what they share
//! in cache lines of their own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many stripes there are. More threads share them.
pub const STRIPES: usize = 8;

static NEXT: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static STRIPE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
}

/// The calling thread's stripe: below [`STRIPES`], the same for the thread's life.
pub fn stripe() -> usize {
    STRIPE.with(|stripe| *stripe)
}
