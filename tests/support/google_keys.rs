//! Keys as Google has them, a server that publishes them, and tokens signed with them, as they should be and as they should
//! not.
#![allow(dead_code, reason = "every test target uses some of it")]

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};
use aws_lc_rs::{encoding, hmac, signature::ECDSA_P256_SHA256_FIXED_SIGNING};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair with a name.
pub struct Key {
    pub kid: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    pub fn rsa(kid: &'static str) -> Self {
        Self { kid, pair: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    pub fn ec(kid: &'static str) -> Self {
        Self { kid, pair: Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()) }
    }

    /// Its public half, as it is published.
    pub fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) =
                    (key.modulus().big_endian_without_leading_zero(), key.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": encoded(n), "e": encoded(e) })
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                json!({ "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.kid,
                    "x": encoded(&point[..32]), "y": encoded(&point[32..]) })
            }
        }
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let alg = if matches!(self.pair, Pair::Rsa(_)) { "RS256" } else { "ES256" };
        self.token_with(&json!({ "alg": alg, "kid": self.kid, "typ": "JWT" }), claims)
    }

    /// A token with this header, however it is signed in truth.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", encoded(signature))
    }

    /// A token whose signature is a digest keyed with the public half, in one of its forms.
    pub fn confused(&self, claims: &Value, public: &[u8]) -> String {
        let header = json!({ "alg": "HS256", "kid": self.kid, "typ": "JWT" });
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, public), signed.as_bytes());
        format!("{signed}.{}", encoded(tag))
    }

    /// Its public half as DER.
    pub fn der(&self) -> Vec<u8> {
        use encoding::AsDer as _;
        match &self.pair {
            Pair::Rsa(pair) => {
                let der: encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                der.as_ref().to_vec()
            }
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

/// What a key server answers, and how often it was asked.
#[derive(Clone)]
pub struct KeyServer {
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Result<Value, StatusCode>,
    cache: String,
    delay: std::time::Duration,
    hits: usize,
}

impl KeyServer {
    pub async fn start(keys: &[&Key]) -> Self {
        let answer = Ok(set(keys));
        let state =
            State { answer, cache: "public, max-age=3600".to_owned(), delay: std::time::Duration::ZERO, hits: 0 };
        let state = Arc::new(Mutex::new(state));
        let asked = Arc::clone(&state);
        let answers = get(move || async move {
            let (answer, cache, delay) = {
                let mut state = asked.lock().unwrap();
                state.hits += 1;
                (state.answer.clone(), state.cache.clone(), state.delay)
            };
            tokio::time::sleep(delay).await;
            match answer {
                Ok(keys) => (StatusCode::OK, [("cache-control", cache)], keys.to_string()),
                Err(code) => (code, [("cache-control", cache)], "down".to_owned()),
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/certs", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/certs", answers)).await });
        Self { url, state }
    }

    pub fn publish(&self, keys: &[&Key], cache: &str) {
        let mut state = self.state.lock().unwrap();
        (state.answer, state.cache) = (Ok(set(keys)), cache.to_owned());
    }

    pub fn fail(&self, code: u16) {
        self.state.lock().unwrap().answer = Err(StatusCode::from_u16(code).unwrap());
    }

    pub fn answer(&self, answer: Value) {
        self.state.lock().unwrap().answer = Ok(answer);
    }

    pub fn slow(&self, delay: std::time::Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    pub fn hits(&self) -> usize {
        self.state.lock().unwrap().hits
    }
}

fn set(keys: &[&Key]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

/// The claims of a good identity token.
pub fn claims(audience: &str, email: &str) -> Value {
    let now = tipoff::clock::Clock::System.now().as_second();
    json!({ "iss": "https://accounts.google.com", "aud": audience, "azp": "1", "sub": "1", "email": email,
        "email_verified": true, "iat": now, "exp": now + 3_600 })
}

/// The claims of a good assertion of the Identity-Aware Proxy.
pub fn assertion(audience: &str, email: &str) -> Value {
    let now = tipoff::clock::Clock::System.now().as_second();
    json!({ "iss": "https://cloud.google.com/iap", "aud": audience, "sub": "accounts.google.com:1", "email": email,
        "iat": now, "exp": now + 600 })
}
