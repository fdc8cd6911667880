//! An operator, an account and a user of a NATS server, as its tools make them: JWTs signed by NKEYs.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// What the server's configuration says, and the user's `.creds` file.
pub struct Credentials {
    pub server: String,
    pub file: String,
}

/// New ones.
pub fn credentials() -> Credentials {
    let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
    let (account, system) = (KeyPair::new_account(), KeyPair::new_account());
    let open = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let closed = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1
    });
    let account_of = |limits: &Value| json!({"limits": limits, "type": "account", "version": 2});
    let server = format!(
        "operator: {}\nsystem_account: {sys}\nresolver: MEMORY\nresolver_preload: {{ {acc}: {}, {sys}: {} }}",
        token(&operator, &operator, json!({"type": "operator", "version": 2})),
        token(&operator, &account, account_of(&open)),
        token(&operator, &system, account_of(&closed)),
        acc = account.public_key(),
        sys = system.public_key(),
    );
    let rights = json!({"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
    let jwt = token(&account, &user, rights);
    let seed = user.seed().unwrap();
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    Credentials { server, file }
}

fn token(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let claims = json!({
        "jti": "1", "iat": 1, "iss": issuer_key, "name": "shop", "sub": subject_key, "nats": nats
    });
    let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = encoded(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let signed = format!("{head}.{}", encoded(claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
