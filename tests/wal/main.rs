//! The log, over real files and over a disk that fails.

mod archive;
mod crash;
mod file;
mod forward;
mod inspect;
mod log;
mod recover;
