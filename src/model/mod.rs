//! The words of the house: ids, quantities, money, time, commands, answers, and the records of the
//! log. Imports nothing of the house.

pub mod command;
pub mod configuration;
mod contract;
pub(crate) mod currencies;
pub mod event;
pub mod fact;
mod ids;
pub mod inbound;
pub mod letter;
pub mod life;
pub mod lineage;
pub mod mapping;
mod money;
mod origin;
pub mod packed;
pub mod partner;
pub mod posting;
mod quantity;
pub mod signature;
pub mod sink;
pub mod tally;
mod tax;
mod text;
mod time;
pub mod totals;
pub mod view;
pub mod worth;

pub use contract::SchemaVersion;
pub use ids::*;
pub use money::*;
pub use origin::*;
pub use quantity::*;
pub use tax::TaxCodes;
pub use time::*;
