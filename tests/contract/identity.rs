//! Tokens of Google's, checked with keys from a real server that rotates them, and fails.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tipoff::adapter::google::token::{Patience, Rejection, Verifier};
use tipoff::clock::Clock;

use super::google_keys::{Key, KeyServer, assertion, claims, encoded};

const AUDIENCE: &str = "https://tipoff.example/push";
const PUSHER: &str = "pusher@p.iam.gserviceaccount.com";

fn patience() -> Patience {
    Patience { timeout: Duration::from_secs(2), ..Patience::default() }
}

fn verifier(server: &KeyServer) -> Verifier {
    Verifier::of_identities(AUDIENCE, Some(&server.url), false, patience()).unwrap()
}

async fn verify(verifier: &Verifier, token: &str) -> Result<String, Rejection> {
    verifier.verify(token, Clock::System.now()).await
}

fn good() -> Value {
    claims(AUDIENCE, PUSHER)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn only_what_google_has_signed_for_us_is_taken() {
    let (key, other) = (Key::rsa("k1"), Key::rsa("k1"));
    let server = KeyServer::start(&[&key]).await;
    let verifier = verifier(&server);
    let now = Clock::System.now().as_second();
    assert_eq!(verify(&verifier, &key.token(&good())).await.as_deref(), Ok(PUSHER));
    assert_eq!(verify(&verifier, &key.token(&with("iss", json!("accounts.google.com")))).await.as_deref(), Ok(PUSHER));

    let token = key.token(&good());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claimed) = signed.split_once('.').unwrap();
    let header_of = |alg: &str| json!({ "alg": alg, "kid": "k1", "typ": "JWT" });
    let unsigned = |alg: &str| format!("{}.{claimed}.", encoded(header_of(alg).to_string()));
    let jwk = key.jwk();
    let modulus = jwk["n"].as_str().unwrap();
    let mut tampered = good();
    tampered["email"] = json!("admin@p.iam.gserviceaccount.com");
    let ec = Key::ec("k1");
    let mut bad = vec![
        ("expired", key.token(&with("exp", json!(now - 31)))),
        ("future", key.token(&with("iat", json!(now + 40)))),
        ("not before", key.token(&with("nbf", json!(now + 40)))),
        ("ten years", key.token(&with("exp", json!(now + 10 * 365 * 86_400)))),
        ("wrong audience", key.token(&with("aud", json!("https://tipoff.example")))),
        ("audiences", key.token(&with("aud", json!([AUDIENCE])))),
        ("wrong issuer", key.token(&with("iss", json!("https://evil.example")))),
        ("another key under the same name", other.token(&good())),
        ("tampered", format!("{header}.{}.{signature}", encoded(tampered.to_string()))),
        ("half a signature", format!("{signed}.{}", &signature[..signature.len() / 2])),
        ("no signature", format!("{signed}.")),
        ("not even a dot", signed.to_owned()),
        ("a signature that was taken off", format!("{signed}.SIGNATURE_REMOVED_BY_GOOGLE")),
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg NONE", unsigned("NONE")),
        ("signed, and says none", key.token_with(&header_of("none"), &good())),
        ("alg rs256", key.token_with(&header_of("rs256"), &good())),
        ("alg RS512", key.token_with(&header_of("RS512"), &good())),
        ("alg PS256", key.token_with(&header_of("PS256"), &good())),
        ("HS256 with the key as DER", key.confused(&good(), &key.der())),
        ("HS256 with the key as it is published", key.confused(&good(), jwk.to_string().as_bytes())),
        ("HS256 with the modulus", key.confused(&good(), modulus.as_bytes())),
        ("ES256 of a key of theirs", ec.token(&good())),
        ("ES256 that says RS256", ec.token_with(&header_of("RS256"), &good())),
        (
            "what is critical is not understood",
            key.token_with(&json!({ "alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": false }), &good()),
        ),
        ("no kid", key.token_with(&json!({ "alg": "RS256" }), &good())),
        ("a key of their own", key.token_with(&json!({ "alg": "RS256", "jwk": other.jwk() }), &good())),
        (
            "a key under their address",
            key.token_with(&json!({ "alg": "RS256", "kid": "k2", "jku": server.url }), &good()),
        ),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("long", "e".repeat(1 << 20)),
        ("not UTF-8 inside", format!("{}.{}.x", encoded([0xff, 0xfe]), encoded([0xff]))),
    ];
    let names = ["iss", "aud", "sub", "email", "email_verified", "iat", "exp"];
    for name in names {
        let mut without = good();
        without.as_object_mut().unwrap().remove(name);
        bad.push((name, key.token(&without)));
        for value in [json!(null), json!([good()[name]]), json!({ "a": 1 }), json!(0.5)] {
            bad.push((name, key.token(&with(name, value))));
        }
    }
    for (name, token) in bad {
        let found = verify(&verifier, &token).await;
        assert!(matches!(found, Err(Rejection::Invalid(_))), "{name}: {found:?}");
        // Nothing of a token is in what is said of it.
        assert!(!format!("{found:?}").contains("eyJ"), "{name}");
    }
    assert_eq!(server.hits(), 1, "junk made us fetch keys");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_come_at_once_are_served_by_one_call() {
    let key = Key::rsa("k1");
    let server = KeyServer::start(&[&key]).await;
    server.slow(Duration::from_millis(300));
    let verifier = Arc::new(verifier(&server));
    let token = key.token(&good());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (verifier, token) = (Arc::clone(&verifier), token.clone());
        all.spawn(async move { verify(&verifier, &token).await });
    }
    let found = all.join_all().await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    assert_eq!((found.len(), server.hits()), (64, 1));
    // Keys that nobody has ever had.
    for bogus in 0..1_000 {
        let token = key.token_with(&json!({ "alg": "RS256", "kid": format!("bogus-{bogus}") }), &good());
        assert!(matches!(verify(&verifier, &token).await, Err(Rejection::Invalid(_))));
        if bogus % 100 == 0 {
            assert!(verify(&verifier, &key.token(&good())).await.is_ok());
        }
    }
    assert!(server.hits() <= 2, "{} calls", server.hits());
}

#[tokio::test]
async fn whoever_leaves_makes_nobody_call_again() {
    let key = Key::rsa("k1");
    let server = KeyServer::start(&[&key]).await;
    server.slow(Duration::from_millis(500));
    let verifier = verifier(&server);
    let token = key.token(&good());
    for _ in 0..20 {
        let leaves = tokio::time::timeout(Duration::from_millis(10), verify(&verifier, &token));
        assert!(leaves.await.is_err());
    }
    assert!(verify(&verifier, &key.token(&good())).await.is_ok());
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn keys_rotate_and_are_good_for_a_while_when_there_are_no_new_ones() {
    let (first, second) = (Key::rsa("k1"), Key::rsa("k2"));
    let server = KeyServer::start(&[&first]).await;
    let again = Duration::from_millis(200);
    let patience = Patience { again, grace: Duration::from_secs(2), ..patience() };
    let verifier = Verifier::of_identities(AUDIENCE, Some(&server.url), false, patience).unwrap();
    let is_good = async |key: &Key| verify(&verifier, &key.token(&good())).await;
    assert!(is_good(&first).await.is_ok());
    // A key is published before it signs; one that is not known yet is looked for, once a while.
    server.publish(&[&first, &second], "max-age=1");
    assert!(matches!(is_good(&second).await, Err(Rejection::Invalid(_))), "it was looked for too soon");
    tokio::time::sleep(again).await;
    assert!(is_good(&second).await.is_ok());
    assert!(is_good(&first).await.is_ok());
    assert_eq!(server.hits(), 2);
    // The server is down: what is known stays good beyond its time, what is not known cannot be told.
    server.fail(503);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(is_good(&second).await.is_ok(), "in its grace");
    let bogus = second.token_with(&json!({ "alg": "RS256", "kid": "k3" }), &good());
    assert!(matches!(verify(&verifier, &bogus).await, Err(Rejection::Unavailable(_))));
    assert!(server.hits() < 8, "{} calls", server.hits());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(matches!(is_good(&second).await, Err(Rejection::Unavailable(_))), "after it");
    // It is up again, and the first key is gone.
    server.publish(&[&second], "max-age=3600");
    tokio::time::sleep(again).await;
    assert!(is_good(&second).await.is_ok());
    assert!(matches!(is_good(&first).await, Err(Rejection::Invalid(_))));
}

#[tokio::test]
async fn before_it_ends_the_time_of_keys_new_ones_are_there() {
    let (first, second) = (Key::rsa("k1"), Key::rsa("k2"));
    let server = KeyServer::start(&[&first]).await;
    server.publish(&[&first], "max-age=2");
    let patience = Patience { again: Duration::from_millis(100), ..patience() };
    let verifier = Verifier::of_identities(AUDIENCE, Some(&server.url), false, patience).unwrap();
    assert!(verify(&verifier, &first.token(&good())).await.is_ok());
    server.publish(&[&first, &second], "max-age=3600");
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    // Nobody waits for that call.
    server.slow(Duration::from_millis(200));
    assert!(verify(&verifier, &first.token(&good())).await.is_ok());
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(server.hits(), 2);
    assert!(verify(&verifier, &second.token(&good())).await.is_ok());
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn while_the_keys_were_never_there_a_token_is_neither_good_nor_bad() {
    let key = Key::rsa("k1");
    let server = KeyServer::start(&[&key]).await;
    let unavailable = async |verifier: &Verifier| {
        let found = verify(verifier, &key.token(&good())).await;
        assert!(matches!(found, Err(Rejection::Unavailable(_))), "{found:?}");
        // What is wrong without any key is wrong.
        let found = verify(verifier, &key.token(&with("aud", json!("x")))).await;
        assert!(matches!(found, Err(Rejection::Invalid(_))), "{found:?}");
    };
    server.fail(500);
    unavailable(&verifier(&server)).await;
    server.fail(302);
    unavailable(&verifier(&server)).await;
    for nonsense in [
        json!({}),
        json!({ "keys": [] }),
        json!([]),
        json!({ "keys": [Key::ec("k1").jwk()] }),
        json!({ "keys": "x".repeat(300_000) }),
    ] {
        server.answer(nonsense);
        unavailable(&verifier(&server)).await;
    }
    server.publish(&[&key], "max-age=3600");
    server.slow(Duration::from_secs(5));
    let hasty = Patience { timeout: Duration::from_millis(200), ..patience() };
    unavailable(&Verifier::of_identities(AUDIENCE, Some(&server.url), false, hasty).unwrap()).await;
    let nobody = "http://127.0.0.1:1/certs";
    unavailable(&Verifier::of_identities(AUDIENCE, Some(nobody), false, patience()).unwrap()).await;
    for wrong in ["http://www.googleapis.com/oauth2/v3/certs", "ftp://127.0.0.1/", "certs"] {
        assert!(Verifier::of_identities(AUDIENCE, Some(wrong), false, patience()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn what_the_proxy_asserts_is_signed_in_its_way() {
    const OURS: &str = "/projects/1/global/backendServices/2";
    let (key, rsa) = (Key::ec("p1"), Key::rsa("p1"));
    let server = KeyServer::start(&[&key]).await;
    let verifier = Verifier::of_iap(OURS, Some(&server.url), patience()).unwrap();
    let good = assertion(OURS, "Ann@example.org");
    assert_eq!(verify(&verifier, &key.token(&good)).await.as_deref(), Ok("ann@example.org"));
    for (name, value) in [
        ("aud", json!("/projects/1/global/backendServices/3")),
        ("iss", json!("https://accounts.google.com")),
        ("exp", json!(1)),
    ] {
        let mut wrong = good.clone();
        wrong[name] = value;
        assert!(verify(&verifier, &key.token(&wrong)).await.is_err(), "{name}");
    }
    for token in
        [rsa.token(&good), Key::ec("p1").token(&good), key.token_with(&json!({ "alg": "none", "kid": "p1" }), &good)]
    {
        assert!(verify(&verifier, &token).await.is_err());
    }
    let token = key.token(&good);
    let signed = token.rsplit_once('.').unwrap().0;
    assert!(verify(&verifier, &format!("{signed}.SIGNATURE_REMOVED_BY_GOOGLE")).await.is_err());
}

#[tokio::test]
async fn behind_cloud_run_a_signature_may_be_taken_off_and_nothing_else() {
    let key = Key::rsa("k1");
    let server = KeyServer::start(&[&key]).await;
    let verifier = Verifier::of_identities(AUDIENCE, Some(&server.url), true, patience()).unwrap();
    let stripped = |claims: &Value| {
        let token = key.token(claims);
        format!("{}.SIGNATURE_REMOVED_BY_GOOGLE", token.rsplit_once('.').unwrap().0)
    };
    assert_eq!(verify(&verifier, &stripped(&good())).await.as_deref(), Ok(PUSHER));
    assert_eq!(server.hits(), 0);
    assert_eq!(verify(&verifier, &key.token(&good())).await.as_deref(), Ok(PUSHER), "one that is still signed");
    for (name, value) in [("aud", json!("x")), ("exp", json!(1)), ("email_verified", json!(false)), ("iss", json!("x"))]
    {
        assert!(verify(&verifier, &stripped(&with(name, value))).await.is_err(), "{name}");
    }
    for signature in ["", "SIGNATURE_REMOVED_BY_GOOGLE=", "signature_removed_by_google", "x"] {
        let token = key.token(&good());
        let token = format!("{}.{signature}", token.rsplit_once('.').unwrap().0);
        assert!(verify(&verifier, &token).await.is_err(), "{signature}");
    }
}
