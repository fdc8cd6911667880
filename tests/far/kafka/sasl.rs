//! A broker that lets nobody in who does not prove who they are. Tansu asks for it only where users were made
//! before, which it can't keep in memory; so what stands before it asks: `PLAIN` and `SCRAM` (RFC 5802), as a
//! server checks them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use tokio::net::{TcpListener, TcpStream};

use super::broker::{Broker, TOPIC, frame, send};

const USER: &str = "me";
const PASSWORD: &str = "swordfish";
const HANDSHAKE: i16 = 17;
const AUTHENTICATE: i16 = 36;
const VERSIONS: i16 = 18;

/// See the module.
pub struct Server {
    pub broker: Broker,
    pub port: u16,
}

/// One that takes this mechanism, for the user `me` with the password `swordfish`.
pub async fn server(mechanism: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = Broker::start_behind(inner, port, &[]).await;
    broker.create(TOPIC, 3);
    let to = broker.port;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            tokio::spawn(async move { guard(client, server, mechanism).await.ok() });
        }
    });
    Server { broker, port }
}

async fn guard(
    mut client: TcpStream,
    mut server: TcpStream,
    mechanism: &str,
) -> std::io::Result<()> {
    let mut said: Vec<String> = Vec::new();
    loop {
        let request = frame(&mut client).await?;
        let body = &request[request.len().min(8 + 2 + "holdfast".len())..];
        let answer = match i16::from_be_bytes([request[0], request[1]]) {
            VERSIONS => {
                send(&mut server, &request).await?;
                send(&mut client, &frame(&mut server).await?).await?;
                continue;
            }
            HANDSHAKE => {
                let code = if &body[2..] == mechanism.as_bytes() { 0_i16 } else { 33 };
                [&code.to_be_bytes()[..], &[0; 4]].concat()
            }
            AUTHENTICATE => {
                said.push(String::from_utf8(body[4..].to_vec()).unwrap());
                let answer = step(mechanism, &mut said);
                let (code, text) = answer.map_or((58_i16, String::new()), |text| (0, text));
                let len = i32::try_from(text.len()).unwrap().to_be_bytes();
                [&code.to_be_bytes()[..], &[0xff; 2], &len, text.as_bytes()].concat()
            }
            // As Kafka does with who asks before.
            _ => return Ok(()),
        };
        send(&mut client, &[&request[4..8], &answer].concat()).await?;
        if matches!(said.last().map(String::as_str), Some("in")) {
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    }
}

/// Answers what the client said last; `in` behind it lets it in. None: refused.
fn step(mechanism: &str, said: &mut Vec<String>) -> Option<String> {
    let answer = match (mechanism, said.len()) {
        ("PLAIN", 1) if said[0] == format!("\0{USER}\0{PASSWORD}") => String::new(),
        ("SCRAM-SHA-256" | "SCRAM-SHA-512", 1) => {
            let nonce = said[0].strip_prefix(&format!("n,,n={USER},r="))?;
            let challenge = format!("r={nonce}server,s={},i=4096", STANDARD.encode("salt"));
            said.push(challenge.clone());
            return Some(challenge);
        }
        ("SCRAM-SHA-256", 3) => proved::<Sha256>(said)?,
        ("SCRAM-SHA-512", 3) => proved::<Sha512>(said)?,
        _ => return None,
    };
    said.push("in".into());
    Some(answer)
}

/// The server's signature, if the client's proof is right.
fn proved<D>(said: &[String]) -> Option<String>
where
    D: Digest + hmac::digest::block_api::EagerHash,
    Hmac<D>: Mac + KeyInit,
{
    let mac = |key: &[u8], text: &[u8]| {
        let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    };
    let xor = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<u8>>();
    let mut round = mac(PASSWORD.as_bytes(), b"salt\0\0\0\x01");
    let mut salted = round.clone();
    for _ in 1..4096 {
        round = mac(PASSWORD.as_bytes(), &round);
        salted = xor(&salted, &round);
    }
    let stored = D::digest(mac(&salted, b"Client Key")).to_vec();
    let (without_proof, proof) = said[2].rsplit_once(",p=")?;
    let all = format!("{},{},{without_proof}", &said[0][3..], said[1]);
    let key = xor(&STANDARD.decode(proof).ok()?, &mac(&stored, all.as_bytes()));
    let server = mac(&mac(&salted, b"Server Key"), all.as_bytes());
    (D::digest(key).to_vec() == stored).then(|| format!("v={}", STANDARD.encode(server)))
}
