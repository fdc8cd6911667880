//! What the engine has done since it was opened, counted in cells of their own cache lines, one set
//! for each of a few threads, so that counting costs no shared line on the hot path.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::ledger::stripe::{STRIPES, stripe};

macro_rules! counters {
    ($($(#[$doc:meta])* $kind:ident $name:ident),+ $(,)?) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Count { $($kind),+ }

        /// What the engine has done since it was opened.
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq,
            serde::Serialize, serde::Deserialize, utoipa::ToSchema,
        )]
        pub struct Counters { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            /// What was done since `earlier` was read.
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name)),+ }
            }
        }

        impl Counting {
            /// All counts.
            pub(super) fn view(&self) -> Counters {
                Counters { $($name: self.sum(Count::$kind)),+ }
            }
        }

        const KINDS: usize = [$(stringify!($name)),+].len();
    };
}

counters! {
    /// Reservations granted, orders in one step included.
    Granted granted,
    /// Requests refused for lack of stock.
    RefusedStock refused_stock,
    /// Requests refused for a customer's limit.
    RefusedLimit refused_limit,
    /// Requests refused for anything else.
    RefusedOther refused_other,
    /// Repeats that got the first answer again.
    Replayed replayed,
    /// Reservations committed, orders in one step included.
    Committed committed,
    /// Reservations released wholly.
    Released released,
    /// Reservations expired.
    Expired expired,
    /// Reservations extended.
    Extended extended,
    /// Carts changed.
    Changed changed,
    /// Orders placed, commits included.
    OrdersPlaced orders_placed,
    /// Shipments, cancellations, invoices, settlements, refunds, returns and notes.
    OrderEvents order_events,
    /// Reports of partners that came before their order and were parked.
    EventsParked events_parked,
    /// Parked reports that happened to their order.
    EventsUnparked events_unparked,
    /// Changes of stock.
    StockChanged stock_changed,
    /// Requests that can wait, refused past the log's soft mark.
    ShedLowPriority shed_low_priority,
    /// Orders of priority bulk, refused there.
    ShedBulkOrder shed_bulk_order,
    /// Stock imports, and lines of some, refused there.
    ShedStockImport shed_stock_import,
    /// Checkpoints made.
    Checkpoints checkpoints,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Counting {
    stripes: [CachePadded<[AtomicU64; KINDS]>; STRIPES],
}

impl Counting {
    /// Counts one.
    pub(super) fn add(&self, count: Count) {
        self.stripes[stripe()][count as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, count: Count) -> u64 {
        self.stripes.iter().map(|s| s[count as usize].load(Ordering::Relaxed)).sum()
    }
}
