//! The configuration of partners: its defaults, its errors with their place, its silence on secrets.

use super::*;
use crate::config::{Config, Error, Overrides};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HASH: &str = "b9f195c5cc7ef6afadbfbc42892ad47d3b24c6bc94bb510c4564a90a14e8b799";

fn load(text: &str) -> Result<Config, Error> {
    let overrides = Overrides::default();
    Config::from_parts("shop.toml".as_ref(), text, std::iter::empty(), &overrides)
}

fn refused(text: &str) -> String {
    load(text).expect_err("must be refused").to_string()
}

#[test]
fn a_partner_has_a_key_or_a_hook_or_both() {
    let text = format!(
        "[[partners]]\nname = \"erp\"\napi_key_sha256 = \"{HASH}\"\n\
         [[partners]]\nname = \"wms\"\n[partners.hook]\nsecret = \"{SECRET}\"\n\
         [[partners]]\nname = \"pay\"\napi_key_env = \"PAY_KEY\"\n\
         [partners.hook]\nscheme = \"stripe\"\nsecret_env = \"PAY_SECRET\"\ntolerance_s = 60\n"
    );
    let partners = load(&text).unwrap().partners;
    assert_eq!(
        partners.iter().map(PartnerConfig::has_key).collect::<Vec<_>>(),
        [true, false, true]
    );
    let hook = partners[1].hook.as_ref().unwrap();
    assert_eq!((hook.scheme, hook.tolerance_s), (Scheme::StandardWebhooks, 300));
    assert_eq!(partners[2].hook.as_ref().unwrap().tolerance_s, 60);
}

#[test]
fn what_is_wrong_names_its_line() {
    let hook = "[[partners]]\nname = \"wms\"\n[partners.hook]\nsecret_env = \"S\"\n";
    let rule = format!("{hook}[[partners.hook.rules]]\n");
    let same = format!("[[partners]]\nname = \"a\"\napi_key_sha256 = \"{HASH}\"\n");
    for (text, line, reason) in [
        ("[[partners]]\nname = \"Wms\"\napi_key_env = \"K\"\n".to_owned(), 2, "lower-case"),
        ("[[partners]]\nname = \"wms\"\n".to_owned(), 2, "neither an API key nor a hook"),
        ("[[partners]]\nname = \"wms\"\napi_key_sha256 = \"ab\"\n".to_owned(), 3, "64 hexadecimal"),
        (
            "[[partners]]\nname = \"wms\"\napi_key_env = \"A-B\"\n".to_owned(),
            3,
            "name of a variable",
        ),
        (
            "[[partners]]\nname = \"wms\"\napi_key_env = \"HOLDFAST__A__B\"\n".to_owned(),
            3,
            "name of a variable",
        ),
        (format!("{same}api_key_env = \"K\"\n"), 4, "exclude each other"),
        (format!("{same}{}", same.replace("\"a\"", "\"b\"")), 6, "is an earlier partner's too"),
        (hook.repeat(2), 6, "is `wms`, which an earlier partner has"),
        (format!("{hook}secret = \"{SECRET}\"\n"), 5, "and not both"),
        (hook.replace("secret_env = \"S\"", "secret = \"whsec_short\""), 4, "24 to 64 bytes"),
        (hook.replace("secret_env = \"S\"", "scheme = \"stripe\""), 3, "must be given"),
        (format!("{hook}tolerance_s = 0\n"), 5, "must be 1 to 3600"),
        (format!("{hook}tolerance_s = 3601\n"), 5, "must be 1 to 3600"),
        (format!("[engine]\nretention_ms = 599999\n{hook}"), 5, "half of `engine.retention_ms`"),
        (format!("{rule}then = \"note\"\n"), 5, "must have `order_id`"),
        (
            format!("{rule}then = \"ignore\"\n[partners.hook.rules.fields]\nx = \"/a\"\n"),
            8,
            "no field",
        ),
    ] {
        let error = refused(&text);
        assert!(error.starts_with(&format!("shop.toml:{line}: `partners.")), "{text}{error}");
        assert!(error.contains(reason), "{text}{error}");
    }
    for (text, line, reason) in [
        (format!("{rule}then = \"shipped\"\n"), 6, "unknown variant `shipped`"),
        (format!("{rule}then = \"ignore\"\nwhen = {{ \"type\" = 1 }}\n"), 7, "must begin with `/`"),
        (
            format!(
                "{rule}then = \"note\"\n[partners.hook.rules.fields]\ntext = \"/a\"\nnote_id = \"b\"\n"
            ),
            9,
            "`b` is not a JSON pointer",
        ),
        (
            format!(
                "{rule}then = \"note\"\n[partners.hook.rules.fields]\ntext = {{ first = [\"b\"] }}\n"
            ),
            8,
            "`b` is not a JSON pointer",
        ),
        (
            format!(
                "{rule}then = \"note\"\n[partners.hook.rules.fields]\ntext = {{ pointr = 1 }}\n"
            ),
            8,
            "unknown field `pointr`",
        ),
        (format!("{hook}scheme = \"paypal\"\n"), 5, "unknown variant `paypal`"),
        ("[[partners]]\nname = \"a\"\nkey = \"b\"\n".to_owned(), 3, "unknown field `key`"),
    ] {
        let error = refused(&text);
        assert!(error.contains("shop.toml") && error.contains(reason), "{text}{error}");
        assert!(error.contains(&format!("line {line}")), "{text}{error}");
    }
}

#[test]
fn others_are_served_only_where_there_are_keys() {
    let listen = "[server]\nlisten = \"0.0.0.0:7411\"\n";
    assert!(refused(listen).contains("no API keys"));
    let hook = "[[partners]]\nname = \"wms\"\nhook = { secret_env = \"S\" }\n";
    assert!(refused(&format!("{listen}{hook}")).contains("no API keys"));
    let keyed = "[[partners]]\nname = \"wms\"\napi_key_env = \"K\"\n";
    assert!(load(&format!("{listen}{keyed}")).is_ok());
}

#[test]
fn no_secret_is_shown() {
    let text = format!(
        "[[partners]]\nname = \"wms\"\napi_key_sha256 = \"{HASH}\"\nhook = {{ secret = \"{SECRET}\" }}\n"
    );
    let config = load(&text).unwrap();
    let shown = config.clone().without_secrets().to_toml().unwrap();
    for printed in [shown, format!("{config:?}")] {
        assert!(printed.contains("wms") && printed.contains("(hidden)"), "{printed}");
        assert!(!printed.contains(SECRET) && !printed.contains(HASH), "{printed}");
    }
    // Nor where the line itself is wrong, which the error shows else.
    for wrong in [
        format!("[[partners]]\nname = \"wms\"\nhook = {{ secret = \"{SECRET}\", x = 1 }}\n"),
        format!("[[partners]]\nname = \"wms\"\n[partners.hook]\nsecrett = \"{SECRET}\"\n"),
        format!("[[partners]]\nname = \"wms\"\n[partners.hook]\nsecret = [\"{SECRET}\"]\n"),
        format!("[[partners]]\nname = \"wms\"\nsecret = \"{SECRET}\n"),
    ] {
        let error = refused(&wrong);
        assert!(!error.contains(SECRET), "{error}");
        assert!(error.contains("line 3") || error.contains("line 4"), "{error}");
    }
}

#[test]
fn the_file_says_what_was_read() {
    let text = include_str!("../../examples/stripe.toml");
    let config = load(text).unwrap();
    assert!(config.partners[0].hook.as_ref().unwrap().rules.len() > 4);
    assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn a_hook_by_itself_does_not_show_its_secret_either() {
    let hook: HookConfig = toml::from_str(&format!("secret = \"{SECRET}\"")).unwrap();
    let printed = format!("{hook:?}");
    assert!(printed.contains("(hidden)") && !printed.contains(SECRET), "{printed}");
    assert!(hook.parks, "{printed}");
}
