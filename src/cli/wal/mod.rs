//! `holdfast wal …`.
use super::{Error, Outcome};
use clap::Subcommand;
#[derive(Debug, Subcommand)]
pub enum Wal {
    /// x
    Verify,
}
impl Wal {
    pub fn run(self) -> Result<Outcome, Error> {
        todo!()
    }
}
