//! What keeps a sale running that is not the sale: backups and what is restored from them, the files that
//! deploy it, and the runbooks, every block of which is executed here against the situation that it is for.

mod archive;
mod backup;
#[path = "../cli/mod.rs"]
mod cli;
mod deploy;
#[allow(dead_code, reason = "here it does not lie")]
#[path = "../far_reconcile/erp.rs"]
mod erp;
mod house;
mod lives;
mod pages;
