//! Signatures as the standards have them, and what any other bytes come to.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STRIPE: &str = "whsec_test_secret_of_stripe";
const NOW: u64 = 1_614_265_330;

fn standard(
    headers: &[(&'static str, &str)],
    body: &[u8],
    now: u64,
) -> Result<Option<String>, Unverified> {
    let verifier = Verifier::new(Scheme::StandardWebhooks, SECRET, 300).unwrap();
    let find = |name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    verifier.verify(find, body, now).map(|id| id.map(str::to_owned))
}

fn stripe(header: &str, body: &[u8], now: u64) -> Result<(), Unverified> {
    let verifier = Verifier::new(Scheme::Stripe, STRIPE, 300).unwrap();
    verifier.verify(|_| Some(header), body, now).map(drop)
}

/// The example of the Standard Webhooks reference libraries.
#[test]
fn signs_as_the_standard_has_it() {
    let signer = Signer::new(SECRET).unwrap();
    let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
    let body = br#"{"test": 2432232314}"#;
    let signature = signer.sign(id, at, body);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(signer.verify(&format!("v2,x {signature}"), id, at, body));
    assert!(!signer.verify(&signature, id, at + 1, body));
    assert!(!signer.verify(&signature, id, at, b"{}"));
    assert!(!signer.verify("", id, at, body));
}

#[test]
fn a_message_must_be_signed_and_of_now() {
    let body = br#"{"test": 2432232314}"#;
    let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let headers = |signature| {
        [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ]
    };
    let id = standard(&headers(good), body, NOW).unwrap();
    assert_eq!(id.as_deref(), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
    let several = format!("v1,{} v1a,x {good}", STANDARD.encode([0; 32]));
    assert!(standard(&headers(&several), body, NOW).is_ok());
    for now in [NOW - 300, NOW + 300] {
        assert!(standard(&headers(good), body, now).is_ok());
    }
    for (now, ahead) in [(NOW - 301, true), (NOW + 301, false)] {
        let stale = Unverified::Stale { off_s: 301, ahead, tolerance_s: 300 };
        assert_eq!(standard(&headers(good), body, now), Err(stale));
    }
    let zeros = format!("v1,{}", STANDARD.encode([0; 32]));
    for wrong in ["", "v1,", "v1,x", &good[3..], "v1,g0hM9SsE", &zeros] {
        assert_eq!(standard(&headers(wrong), body, NOW), Err(Unverified::Signature), "{wrong}");
    }
    assert_eq!(standard(&headers(good), b"{}", NOW), Err(Unverified::Signature));
    for missing in 0..3 {
        let mut rest = headers(good).to_vec();
        let (name, _) = rest.remove(missing);
        assert_eq!(standard(&rest, body, NOW), Err(Unverified::Header(name)));
    }
    for at in ["", "+1614265330", "01614265330", "1614265330.0", "99999999999999999999"] {
        let mut headers = headers(good);
        headers[1].1 = at;
        let wrong = Err(Unverified::Header("webhook-timestamp"));
        assert_eq!(standard(&headers, body, NOW), wrong, "{at}");
    }
}

/// Made with `printf '1614265330.{}' | openssl dgst -sha256 -hmac whsec_test_secret_of_stripe`.
#[test]
fn stripe_signs_the_second_and_the_body_in_hexadecimal() {
    let code = "bc166c9fe2391bc2b93d043a18af976ad11065dfd65a05413fa1808205da20e1";
    assert_eq!(stripe(&format!("t=1614265330,v1={code}"), b"{}", NOW), Ok(()));
    assert_eq!(stripe(&format!("t=1614265330, v0=aa, v1=00,v1={code}"), b"{}", NOW), Ok(()));
    let wrong = |header: &str| stripe(header, b"{}", NOW).unwrap_err();
    assert_eq!(wrong(&format!("t=1614265331,v1={code}")), Unverified::Signature);
    assert_eq!(wrong(&format!("t=1614265330,v0={code}")), Unverified::Signature);
    assert_eq!(wrong("t=1614265330"), Unverified::Signature);
    assert_eq!(wrong(&format!("v1={code}")), Unverified::Header("stripe-signature"));
    let late = stripe(&format!("t=1614265330,v1={code}"), b"{}", NOW + 301);
    assert!(matches!(late, Err(Unverified::Stale { ahead: false, .. })));
}

#[test]
fn a_secret_is_checked_and_never_shown() {
    for (scheme, good, bad) in [
        (Scheme::StandardWebhooks, SECRET, "whsec_c2hvcnQ="),
        (Scheme::StandardWebhooks, SECRET, "swordfish-swordfish"),
        (Scheme::Stripe, STRIPE, "swordfish"),
        (Scheme::Stripe, STRIPE, "swordfish swordfish"),
    ] {
        assert_eq!(scheme.check_secret(good), Ok(()));
        let error = scheme.check_secret(bad).unwrap_err().to_string();
        assert!(!error.contains(bad), "{error}");
        let verifier = Verifier::new(scheme, good, 300).unwrap();
        assert!(!format!("{verifier:?}").contains(good));
        assert!(Verifier::new(scheme, bad, 300).is_err());
    }
}

#[test]
fn a_key_is_known_by_its_hash() {
    // printf swordfish | sha256sum
    let text = "b9f195c5cc7ef6afadbfbc42892ad47d3b24c6bc94bb510c4564a90a14e8b799";
    let hash = KeyHash::from_hex(text).unwrap();
    assert!(hash == KeyHash::of("swordfish") && hash != KeyHash::of("swordfisk"));
    assert!(hash == KeyHash::from_hex(&text.to_uppercase()).unwrap());
    for bad in ["", "swordfish", &text[1..], &text[2..], &format!("{text}00"), &"g".repeat(64)] {
        assert!(KeyHash::from_hex(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_taken_and_nothing_else(
        id in "[ -~]{1,40}", off in -300_i64..=300, body in any::<Vec<u8>>(), flip in any::<usize>(),
    ) {
        let at = NOW.saturating_add_signed(off);
        let signature = Signer::new(SECRET).unwrap().sign(&id, at, &body);
        let at = at.to_string();
        let headers = |signature| [
            ("webhook-id", id.as_str()), ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature),
        ];
        prop_assert_eq!(standard(&headers(&signature), &body, NOW), Ok(Some(id.clone())));
        let mut other = body.clone();
        match other.is_empty() {
            true => other.push(0),
            false => { let at = flip % other.len(); other[at] ^= 1; }
        }
        let refused = standard(&headers(&signature), &other, NOW);
        prop_assert_eq!(refused, Err(Unverified::Signature));
    }

    #[test]
    fn any_headers_are_refused_without_a_panic(
        a in ".{0,80}", b in "(t=|v1=|v1,|[0-9a-f]{0,70}|,| ){0,12}", body in any::<Vec<u8>>(),
    ) {
        for (id, at, signature) in [(&a, &b, &b), (&a, &"1614265330".to_owned(), &b)] {
            let headers = [
                ("webhook-id", id.as_str()), ("webhook-timestamp", at.as_str()),
                ("webhook-signature", signature.as_str()),
            ];
            prop_assert!(standard(&headers, &body, NOW).is_err());
        }
        prop_assert!(stripe(&a, &body, NOW).is_err() && stripe(&b, &body, NOW).is_err());
    }
}

/// A comparison of a part would pass for one of the whole.
#[test]
fn every_byte_of_a_signature_counts() {
    let signer = Signer::new(SECRET).unwrap();
    let signed = signer.sign("m", NOW, b"{}");
    let code = STANDARD.decode(&signed[3..]).unwrap();
    assert_eq!(code.len(), 32);
    for at in 0..code.len() {
        let mut other = code.clone();
        other[at] ^= 1;
        let other = format!("v1,{}", STANDARD.encode(other));
        assert!(!signer.verify(&other, "m", NOW, b"{}"), "byte {at}");
    }
    for cut in 0..code.len() {
        let short = format!("v1,{}", STANDARD.encode(&code[..cut]));
        assert!(!signer.verify(&short, "m", NOW, b"{}"), "{cut} bytes");
    }
}

#[test]
fn only_so_many_signatures_of_a_header_are_looked_at() {
    let signer = Signer::new(SECRET).unwrap();
    let (good, other) = (signer.sign("m", NOW, b"{}"), signer.sign("m", NOW, b"[]"));
    let header = |others: usize| [vec![other.as_str(); others], vec![&good]].concat().join(" ");
    assert!(signer.verify(&header(SIGNATURES_MAX - 1), "m", NOW, b"{}"));
    assert!(!signer.verify(&header(SIGNATURES_MAX), "m", NOW, b"{}"));

    let mut mac = mac_of(STRIPE.as_bytes()).unwrap();
    mac.update(format!("{NOW}.{{}}").as_bytes());
    let code = mac.finalize().into_bytes();
    let good: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    let other = "0".repeat(64);
    let header = |others: usize| {
        let others = format!(",v1={other}").repeat(others);
        format!("t={NOW}{others},v1={good}")
    };
    assert_eq!(stripe(&header(SIGNATURES_MAX - 1), b"{}", NOW), Ok(()));
    assert_eq!(stripe(&header(SIGNATURES_MAX), b"{}", NOW), Err(Unverified::Signature));
}

#[test]
fn a_key_is_found_by_the_whole_of_its_hash() {
    let keys: Vec<_> = (0..100).map(|n| KeyHash::of(&format!("key-{n}"))).collect();
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(key.find(keys.iter()), Some(at));
        for byte in 0..32 {
            let mut other = key.to_bytes();
            other[byte] ^= 0x80;
            let other = KeyHash::from_bytes(&other);
            assert!(other != *key && other.find(keys.iter()).is_none(), "byte {byte}");
        }
    }
    assert_eq!(KeyHash::of("key-100").find(keys.iter()), None);
    assert_eq!(KeyHash::of("key-1").find([].iter()), None);
    assert_eq!(KeyHash::from_bytes(&[0; 32]).find([KeyHash::from_bytes(&[0; 32])].iter()), Some(0));
}

#[test]
fn a_key_is_new_each_time_and_known_by_its_hash() {
    let (one, other) = (ApiKey::random().unwrap(), ApiKey::random().unwrap());
    assert_ne!(one.reveal(), other.reveal());
    assert!(one.reveal().len() >= 40 && one.reveal().bytes().all(|b| b.is_ascii_graphic()));
    assert_eq!(one.hash(), KeyHash::of(one.reveal()));
    assert_eq!(format!("{one:?}{:?}", one.hash()), "ApiKeyKeyHash");
}
