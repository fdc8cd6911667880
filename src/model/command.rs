//! What callers ask for: the bodies of requests, shaped as the HTTP contract has them. The same
//! types serve the library, so that an embedder and a storefront say the same thing.
//!
//! Each is checked field by field where it is parsed (a wrong one names its field); what needs more
//! than one field, or the configuration, is checked by the engine.

mod report;
mod reservation;
mod sale;
mod stock;

pub use report::{
    AuthorizeReturn, Cancel, Invoice, Note, ReceiveReturn, Refund, ReturnLine, Settle, Ship,
    ShipLine,
};
pub use reservation::{
    BatchReserve, ChangeLines, Extend, Release, ReleaseLine, Reserve, ReserveLine,
};
pub use sale::{Commit, OrderLine, PlaceOrder, PriceLine, Prices, Priority};
pub use stock::{AdjustStock, AdjustmentReason, ImportStock, SetStock};

/// The default of what is so unless a caller says otherwise.
fn yes() -> bool {
    true
}
