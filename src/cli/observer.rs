//! From the configuration to the observer: a secret that stands in the environment is read here.

use holdfast::{config::Config, observe};

use super::Error;

/// What is configured of it; `variable` reads the environment.
pub fn options(
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<observe::Options, Error> {
    let alerts = config.alerts.clone();
    let alert_secret = match alerts.secret_env.as_str() {
        "" => alerts.secret.clone(),
        name => variable(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            Error::Usage(format!(
                "`alerts.secret_env`: the environment variable {name} is not set, or not UTF-8"
            ))
        })?,
    };
    Ok(observe::Options {
        telemetry: config.telemetry.clone(),
        service_levels: config.service_levels.clone(),
        alerts,
        alert_secret,
    })
}
