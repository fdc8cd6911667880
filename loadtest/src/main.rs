//! The tester's command line.

fn main() {}
