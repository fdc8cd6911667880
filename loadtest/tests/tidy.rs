//! Keeps the tester tidy, as `tests/tidy.rs` of the house does the house: every file says what it is for,
//! nothing is left unfinished, nothing is unsafe.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// More lines than one can hold in mind; a file that has outgrown it is to be split.
const LINES_MAX: usize = 600;

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_finished() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 30, "the sources were not found");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let file = file.display();
        assert!(text.starts_with("//!"), "{file} does not begin with what it is for");
        assert!(text.lines().count() <= LINES_MAX, "{file} has outgrown {LINES_MAX} lines");
        for left in ["todo!(", "unimplemented!(", "dbg!(", "unsafe {"] {
            let code = |line: &str| line.split("//").next().unwrap_or("").contains(left);
            assert!(!text.lines().any(code), "{file} has a {left}…)");
        }
    }
}
