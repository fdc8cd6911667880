//! The files that are looked at are compiled without the tests that stand in them.

fn main() {
    println!("cargo::rustc-cfg=model_check");
    println!("cargo::rerun-if-changed=build.rs");
}
