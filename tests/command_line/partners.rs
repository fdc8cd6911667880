//! The guide to partners does what it says when it is pasted; keys and secrets reach a real server.

use std::{fs, process::Command};

use crate::cli::{Server, get, holdfast};
use serde_json::json;

const GUIDE: &str = include_str!("../../docs/partners.md");

/// The content of the guide's code blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    GUIDE.split(&begin).skip(1).filter_map(|rest| rest.split_once("```")).map(|b| b.0).collect()
}

#[test]
fn the_examples_of_the_guide_ship_and_settle_an_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shop.toml");
    let [toml] = blocks("toml")[..] else { panic!("one configuration") };
    let stripe = include_str!("../../examples/stripe.toml");
    let rules = stripe.split_once("[[partners.hook.rules]]").unwrap().1;
    fs::write(&config, format!("{toml}[[partners.hook.rules]]{rules}")).unwrap();
    let mut serve = holdfast();
    let server =
        Server::start_with(&dir.path().join("data"), serve.env("HOLDFAST_CONFIG", &config));
    let scripts = blocks("sh");
    assert_eq!(scripts.len(), 3, "stock and order, warehouse, Stripe");
    let script = scripts.join("\n").replace("http://127.0.0.1:7411", &server.url);
    let pasted = Command::new("sh").args(["-e", "-c", &script]).output().expect("a shell");
    let out = String::from_utf8_lossy(&pasted.stdout);
    assert!(pasted.status.success(), "{out}{}", String::from_utf8_lossy(&pasted.stderr));
    let order = get(&format!("{}/v1/orders/O-1", server.url));
    assert_eq!(order["state"], "fulfilled", "{out}");
    let money = &order["money"];
    assert_eq!((&money["settled"], &money["fees"]), (&json!(4488), &json!(92)), "{out}");
    assert_eq!(get(&format!("{}/v1/stock/TEE-M", server.url))["on_hand"], 98);
}

#[test]
fn a_server_with_keys_serves_those_who_have_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shop.toml");
    fs::write(&config, "[[partners]]\nname = \"shop\"\napi_key_env = \"SHOP_KEY\"\n").unwrap();
    let key = "a-key-of-more-than-20-characters";
    let mut serve = holdfast();
    serve.env("HOLDFAST_CONFIG", &config).env("SHOP_KEY", key);
    let server = Server::start_with(&dir.path().join("data"), &mut serve);
    let refused = get(&format!("{}/v1/stock/A", server.url));
    assert_eq!(refused["code"], "unauthenticated");
    let file = dir.path().join("stock.csv");
    fs::write(&file, "sku,location,on_hand\nA,BER,5\n").unwrap();
    let import = || {
        let mut import = holdfast();
        import.args(["stock", "import", "--url", &server.url]).arg(&file);
        import
    };
    let failed = crate::cli::run(&mut import()).with(3);
    assert!(failed.err.contains("401"), "{}", failed.err);
    crate::cli::run(import().env("HOLDFAST_API_KEY", key)).with(0);
    let read = crate::cli::runtime().block_on(async {
        let request =
            crate::cli::client().get(format!("{}/v1/stock/A", server.url)).bearer_auth(key);
        request.send().await.unwrap().json::<serde_json::Value>().await.unwrap()
    });
    assert_eq!(read["on_hand"], 5);
}

#[test]
fn a_server_without_its_secrets_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shop.toml");
    fs::write(&config, "[[partners]]\nname = \"shop\"\napi_key_env = \"SHOP_KEY\"\n").unwrap();
    let data = dir.path().join("data");
    let serve = |key: &str| {
        let mut serve = holdfast();
        serve.args(["serve", "--config"]).arg(&config).arg("--data").arg(&data);
        serve.env("SHOP_KEY", key);
        crate::cli::run(&mut serve).with(2).err
    };
    assert!(serve("").contains("SHOP_KEY is not set"), "{}", serve(""));
    assert!(!serve("swordfish").contains("swordfish"));
    let check = crate::cli::run(holdfast().args(["check-config", "--config"]).arg(&config)).with(0);
    assert!(check.out.contains("SHOP_KEY"), "{}", check.out);
}

#[test]
fn check_config_names_the_line_of_a_wrong_rule() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("shop.toml");
    let good = include_str!("../../examples/stripe.toml");
    let line = |text: &str| 1 + good.lines().position(|l| l == text).unwrap();
    let check = |text: &str| {
        fs::write(&config, text).unwrap();
        crate::cli::run(holdfast().args(["check-config", "--config"]).arg(&config))
    };
    check(good).with(0);
    let refund = r#"refund_id = "/data/object/id""#;
    let error = check(&good.replace(refund, r#"refund_id = "data/object/id""#)).with(2).err;
    assert!(error.contains(&format!("line {}", line(refund))), "{error}");
    let error = check(&good.replacen("then = \"note\"", "then = \"notes\"", 1)).with(2).err;
    assert!(error.contains(&format!("line {}", line("then = \"note\""))), "{error}");
    assert!(error.contains("unknown variant `notes`"), "{error}");
    let note = r#"note_id = "/data/object/id""#;
    let error = check(&good.replace(note, r#"note = "/data/object/id""#)).with(2).err;
    assert!(error.contains(&format!("shop.toml:{}: ", line(note))), "{error}");
}
