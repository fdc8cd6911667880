//! From the configuration to the partners of the API: secrets that stand in the environment are read
//! here, once, at the start.

use holdfast::{
    api::{Hook, Partner, Partners},
    config::{Config, HookConfig, PartnerConfig},
    engine::Engine,
    model::signature::{KeyHash, Verifier},
};

use super::Error;

/// The fewest characters of an API key: fewer can be guessed.
const KEY_CHARS_MIN: usize = 20;

/// The partners; `variable` reads the environment.
pub fn partners(
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Partners, Error> {
    let partners = config.partners.iter().map(|partner| {
        let wrong = |reason| Error::Partner { name: partner.name.clone(), reason };
        self::partner(partner, &variable).map_err(wrong)
    });
    let partners = partners.collect::<Result<_, _>>()?;
    Partners::new(partners).map_err(|e| Error::Usage(e.to_string()))
}

/// Checks what only the log can tell: that nobody is in both, and that the keys are there that are said to
/// be.
pub fn check_live(config: &Config, engine: &Engine) -> Result<(), Error> {
    let live = engine.partners();
    let active = |name: &str| live.get(name).is_some_and(|partner| !partner.revoked);
    if let Some(both) = config.partners.iter().find(|partner| active(&partner.name)) {
        let reason = "is in the configuration and in the log: give one of the two another name, or \
                      revoke the log's (`holdfast partner revoke`)";
        return Err(Error::Partner { name: both.name.clone(), reason: reason.to_owned() });
    }
    let has_keys = live.values().any(|partner| !partner.revoked)
        || config.partners.iter().any(PartnerConfig::has_key);
    if config.server.keys_in_log && !has_keys {
        let what = "`server.keys_in_log` is set, and there is no API key in the log: add a partner with \
                    `holdfast partner add NAME --scope operate --data DIR`";
        return Err(Error::Usage(what.to_owned()));
    }
    Ok(())
}

fn partner(
    config: &PartnerConfig,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Partner, String> {
    let key = match (&config.api_key_sha256, &config.api_key_env) {
        (Some(hash), _) => {
            Some(KeyHash::from_hex(hash).map_err(|e| format!("`api_key_sha256` {e}"))?)
        }
        (None, Some(name)) => Some(key(name, variable)?),
        (None, None) => None,
    };
    let hook = config.hook.as_ref().map(|hook| self::hook(hook, variable)).transpose()?;
    Ok(Partner { name: config.name.clone(), key, hook, terms: config.terms() })
}

fn key(name: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<KeyHash, String> {
    let key = given(name, variable)?;
    if key.len() < KEY_CHARS_MIN || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "the API key in the environment variable {name} must be at least {KEY_CHARS_MIN} \
             visible ASCII characters, made at random"
        ));
    }
    Ok(KeyHash::of(&key))
}

fn hook(config: &HookConfig, variable: &impl Fn(&str) -> Option<String>) -> Result<Hook, String> {
    let (secret, place) = match (&config.secret, &config.secret_env) {
        (Some(secret), _) => (secret.clone(), "`hook.secret`".to_owned()),
        (None, Some(name)) => {
            (given(name, variable)?, format!("the secret in the environment variable {name}"))
        }
        (None, None) => return Err("`hook.secret` is missing".to_owned()),
    };
    let verifier = Verifier::new(config.scheme, &secret, config.tolerance_s);
    let verifier = verifier.map_err(|e| format!("{place} {e}"))?;
    Ok(Hook { verifier, mapping: config.mapping(), parks: config.parks, limits: config.limits() })
}

fn given(name: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let missing = || format!("the environment variable {name} is not set, or not UTF-8");
    variable(name).filter(|value| !value.is_empty()).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn configured(toml: &str) -> Config {
        let overrides = holdfast::config::Overrides::default();
        Config::from_parts("p.toml".as_ref(), toml, std::iter::empty(), &overrides).unwrap()
    }

    fn read(toml: &str, variables: &[(&str, &str)]) -> Result<Partners, Error> {
        let find = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        partners(&configured(toml), find)
    }

    #[test]
    fn secrets_are_read_from_the_variables_that_are_named() {
        let toml = "[[partners]]\nname = \"wms\"\napi_key_env = \"K\"\nhook = {secret_env = \"S\"}";
        let key = "x".repeat(20);
        assert!(read(toml, &[("K", &key), ("S", SECRET)]).is_ok());
        for (variables, named) in [
            (&[("S", SECRET)][..], "variable K "),
            (&[("K", ""), ("S", SECRET)], "variable K "),
            (&[("K", "swordfish"), ("S", SECRET)], "variable K "),
            (&[("K", &key)], "variable S "),
            (&[("K", &key), ("S", "whsec_swordfish")], "variable S "),
        ] {
            let error = read(toml, variables).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(named) && text.contains("`wms`"), "{text}");
            assert!(!text.contains("swordfish"), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn two_partners_of_one_key_are_refused() {
        let partner = |name| format!("[[partners]]\nname = \"{name}\"\napi_key_env = \"K\"\n");
        let toml = partner("a") + &partner("b");
        let error = read(&toml, &[("K", &"x".repeat(20))]).unwrap_err().to_string();
        assert!(error.contains("`a` and `b`"), "{error}");
    }
}
