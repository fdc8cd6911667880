//! The README's shell examples do what it says when they are pasted.

use std::process::Command;

use crate::cli::{Server, get};
use serde_json::json;

const README: &str = include_str!("../../README.md");

/// The content of the README's code blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    README.split(&begin).skip(1).filter_map(|rest| rest.split_once("```")).map(|b| b.0).collect()
}

#[test]
fn the_curl_examples_reserve_and_sell() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let blocks = blocks("sh");
    assert_eq!(blocks.len(), 3, "the README's examples");
    let script = blocks.join("\n").replace("http://127.0.0.1:7411", &server.url);
    let pasted = Command::new("sh").args(["-e", "-c", &script]).output().expect("a shell");
    let out = String::from_utf8_lossy(&pasted.stdout);
    assert!(pasted.status.success(), "{out}{}", String::from_utf8_lossy(&pasted.stderr));
    assert!(!out.contains("/problems/"), "{out}");
    let stock = get(&format!("{}/v1/stock/TEE-M", server.url));
    assert_eq!((&stock["on_hand"], &stock["available"]), (&json!(99), &json!(99)), "{out}");
    let order = get(&format!("{}/v1/orders/O-1", server.url));
    assert_eq!((&order["state"], &order["total"]), (&json!("fulfilled"), &json!(3998)), "{out}");
    assert_eq!(order["money"]["refunded"], 1999, "{out}");
}

#[test]
fn every_command_that_it_names_is_there() {
    let commands = README.lines().filter_map(|line| line.strip_prefix("| `holdfast "));
    let mut named = Vec::new();
    for line in commands {
        let words: Vec<_> = line
            .split(['`', ' '])
            .take_while(|word| !word.starts_with("--"))
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            .filter(|word| !word.is_empty())
            .collect();
        let help = crate::cli::run(crate::cli::holdfast().args(&words).arg("--help")).with(0).out;
        for flag in line.split([' ', '[', '|', '\\', ']']).filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "no {flag} in the help of {words:?}");
        }
        named.push(words[0]);
    }
    let help = crate::cli::run(crate::cli::holdfast().arg("--help")).with(0).out;
    let there = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let there = there.take_while(|line| !line.is_empty());
    for command in there.filter_map(|line| line.split_whitespace().next()) {
        assert!(named.contains(&command) || command == "help", "no {command} in the README");
    }
}

/// The commands that the operators' guide shows are there, with their flags.
#[test]
fn every_command_of_the_guide_to_delivery_is_there() {
    let guide = include_str!("../../docs/delivery.md");
    let lines = guide.lines().filter(|line| line.starts_with("    "));
    let commands: Vec<&str> = lines.flat_map(|line| line.split('|')).map(str::trim).collect();
    let mut count = 0;
    for command in commands.iter().filter_map(|command| command.strip_prefix("holdfast ")) {
        let words: Vec<_> = command.split(' ').take(2).collect();
        let help = crate::cli::run(crate::cli::holdfast().args(&words).arg("--help")).with(0).out;
        for flag in command.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "no {flag} in the help of {words:?}");
        }
        count += 1;
    }
    assert_eq!(count, 11);
}
