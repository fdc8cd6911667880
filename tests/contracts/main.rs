//! What partners are promised: schemas that are true of what is sent, a description of the API that is
//! true of what it answers, changes of both that break nobody, and changes of the configuration that are
//! written down and can be taken back.

#[path = "../cli/mod.rs"]
mod cli;

mod bodies;
mod change;
mod compatible;
mod generate;
mod published;
mod shop;
