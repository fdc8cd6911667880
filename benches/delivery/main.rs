//! What becomes of a peak at the far end: the real engine on a real disk, the real delivery, and the
//! built-in receiver on a loopback port.
//!
//! - `burst`: a burst of orders against an ERP that takes so many calls a second.
//! - `outage`: memory while every partner is down, beside that of a run with healthy ones.
//! - `lanes`: how long an express order waits behind a backlog of others.
//!
//! `cargo bench --bench delivery -- burst|outage|lanes [--help]`

mod burst;
mod lanes;
mod outage;
mod shop;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Where the data goes; a fresh folder in it.
    #[arg(long, default_value = "target", global = true)]
    data: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// A burst of orders against an ERP with a limit.
    Burst(burst::Args),
    /// Memory while every partner is down.
    Outage(outage::Args),
    /// An express order behind a backlog.
    Lanes(lanes::Args),
}

fn main() {
    let args = Args::parse();
    let dir = tempfile::tempdir_in(&args.data).expect("a folder for the data");
    match args.what {
        What::Burst(burst) => burst::run(&burst, dir.path()),
        What::Outage(outage) => outage::run(&outage, dir.path()),
        What::Lanes(lanes) => lanes::run(&lanes, dir.path()),
    }
}
