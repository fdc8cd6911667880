//! Keeps the house tidy: imports point one way, `unsafe` stays where it is justified, every file
//! says what it is for, and nothing is left unfinished.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each folder of `src/` may import; the folder itself is understood.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wal", &["model", "telemetry"]),
    ("ledger", &["model"]),
    ("config", &["model"]),
    ("engine", &["model", "wal", "ledger"]),
    ("feed", &["model", "wal", "engine", "config", "telemetry"]),
    ("delivery", &["model", "wal", "engine", "feed", "config", "telemetry"]),
    ("sinks", &["model", "wal", "engine", "feed", "delivery", "config", "telemetry"]),
    ("telemetry", &["model"]),
    ("observe", &["model", "wal", "engine", "sinks", "config", "telemetry"]),
    ("api", &["model", "wal", "engine", "telemetry"]),
    ("protocol", &["model", "telemetry"]),
    ("client", &["model", "protocol"]),
    // Of the log only the word for what lies under it.
    ("gateway", &["model", "wal", "engine", "protocol", "telemetry"]),
];

/// Where `unsafe` may stand.
const UNSAFE_IN: &[&str] = &["src/wal/", "src/ledger/memory.rs"];

/// More lines than one can hold in mind; a file that has outgrown it is to be split.
const LINES_MAX: usize = 800;

fn sources() -> Vec<(String, String)> {
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 50, "the sources were not found");
    let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The part of a file that is not tests: those may look where they like.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]")
        .or_else(|| text.find("\n#[cfg(all(test"))
        .map_or(text, |at| &text[..at])
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// The folders that a file names, in `use crate::{…}` and in paths alike.
fn imported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let text: String = text.lines().map(code).collect::<Vec<_>>().join("\n");
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(group_heads(group));
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

/// The first names of the entries of a group, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut head) = (0, Vec::new(), String::new());
    let mut fresh = true;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(std::mem::take(&mut head));
                fresh = true;
            }
            c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => head.push(c),
            c if depth == 0 && !c.is_whitespace() => fresh = false,
            _ => {}
        }
    }
    heads.push(head);
    heads.into_iter().filter(|h| !h.is_empty()).collect()
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let folder = file.trim_start_matches("src/").split('/').next().unwrap_or("");
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
            continue;
        };
        let known: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
        for name in imported(without_tests(&text)) {
            if known.contains(&name.as_str()) && name != folder && !allowed.contains(&name.as_str())
            {
                wrong.push(format!("{file} imports {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn this_test_sees_an_import_whatever_its_form() {
    let text = "use crate::{\n    ledger::{a, b},\n    model,\n};\nlet x = crate::wal::Lsn(0); // crate::api\n";
    assert_eq!(imported(text), ["ledger", "model", "wal"]);
}

#[test]
fn unsafe_code_stays_where_it_is_justified() {
    for (file, text) in sources() {
        let has = text
            .lines()
            .any(|l| ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|u| code(l).contains(u)));
        assert!(!has || UNSAFE_IN.iter().any(|place| file.starts_with(place)), "{file}");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_finished() {
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "{file} does not begin with what it is for");
        assert!(text.lines().count() <= LINES_MAX, "{file} has outgrown {LINES_MAX} lines");
        for left in ["todo!(", "unimplemented!(", "dbg!("] {
            assert!(!text.lines().any(|l| code(l).contains(left)), "{file} has a {left}…)");
        }
    }
}
