//! The words of the house: ids, quantities, money, time, commands, answers, and the records of the
//! log. Imports nothing of the house.

mod ids;

pub use ids::*;
