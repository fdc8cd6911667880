//! The words of the house: ids, quantities, money, time, commands, answers, and the records of the
//! log. Imports nothing of the house.

pub mod command;
pub mod event;
pub mod fact;
mod ids;
pub mod life;
pub mod lineage;
mod money;
mod origin;
mod quantity;
pub mod sink;
mod time;
pub mod totals;
pub mod view;

pub use ids::*;
pub use money::*;
pub use origin::*;
pub use quantity::*;
pub use time::*;
