//! Tokens that Google has signed: identity tokens, as Pub/Sub and Cloud Run's callers bring them, and the assertions of the
//! Identity-Aware Proxy. Whose they are is told by the e-mail address in them; that a token was made for us proves nothing,
//! since anybody with a project can have one made.
//!
//! Keys are fetched when one is asked for, once for all who wait, and kept for as long as the answer allows. A key that is
//! not known is looked for again, but not more often than every so often, whatever tokens name. While the keys cannot be
//! fetched the known ones stay good for a while; a token that nobody can check is neither good nor bad.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::header::CACHE_CONTROL;
use reqwest::{Client, Response, Url};
use serde::Deserialize;

use crate::adapter::{call, egress};

/// Where Google publishes the keys of identity tokens,
const IDENTITY_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";
/// and those of the Identity-Aware Proxy.
const IAP_KEYS: &str = "https://www.gstatic.com/iap/verify/public_key-jwk";
/// What Cloud Run leaves of a signature that it has checked.
const REMOVED: &str = "SIGNATURE_REMOVED_BY_GOOGLE";
/// Bytes of a token; Google's have about one thousand.
const TOKEN_MAX: usize = 8 * 1024;
/// How far clocks may be apart, in seconds.
const LEEWAY: i64 = 30;
/// The longest life of a token, in seconds: Google's live for an hour.
const LIFE_MAX: i64 = 3_660;
/// Bytes of the answer with the keys; Google's has about two thousand.
const KEYS_MAX: usize = 256 * 1024;
/// How long keys are kept where their answer does not say,
const AGE: Duration = Duration::from_secs(5 * 60);
/// and at most.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The longest that an answer may take.
    pub timeout: Duration,
    /// The least time between two calls.
    pub again: Duration,
    /// How long keys stay good, beyond their time, while there are no new ones.
    pub grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { timeout: seconds(10), again: seconds(30), grace: seconds(60 * 60) }
    }
}

/// Why a token is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// It is not good. The words are for our log, not for whoever sent it; nothing of the token is in them.
    #[error("{0}")]
    Invalid(&'static str),
    /// It may be good: the keys cannot be fetched.
    #[error("the keys of tokens cannot be fetched: {0}")]
    Unavailable(String),
}

/// What a token has to be.
#[derive(Debug)]
struct Terms {
    algorithm: Algorithm,
    issuers: &'static [&'static str],
    audience: String,
    /// Whether it has to say that the address is whose it says.
    verified: bool,
    /// Whether it may come without its signature.
    stripped: bool,
}

/// Checks tokens that are made for one audience.
#[derive(Debug)]
pub struct Verifier {
    terms: Terms,
    keys: Keys,
}

impl Verifier {
    /// Of identity tokens. `stripped` says that Cloud Run stands before us: it has checked the signature and taken it off,
    /// which nobody else may.
    ///
    /// # Errors
    /// If keys cannot be fetched from `keys`: it has to be an https URL, or one on loopback.
    pub fn of_identities(
        audience: &str,
        keys: Option<&str>,
        stripped: bool,
        patience: Patience,
    ) -> Result<Self, String> {
        let issuers = &["https://accounts.google.com", "accounts.google.com"];
        let audience = audience.to_owned();
        let terms = Terms { algorithm: Algorithm::RS256, issuers, audience, verified: true, stripped };
        Ok(Self { terms, keys: Keys::new(keys.unwrap_or(IDENTITY_KEYS), Algorithm::RS256, patience)? })
    }

    /// Goes on with the keys that another has fetched, if it fetches them from the same place.
    pub fn go_on_from(&mut self, other: &Self) {
        let (own, others) = (&self.keys.shared, &other.keys.shared);
        if own.url == others.url && own.algorithm == others.algorithm {
            self.keys = other.keys.clone();
        }
    }

    /// Of what the Identity-Aware Proxy asserts.
    ///
    /// # Errors
    /// As of identity tokens.
    pub fn of_iap(audience: &str, keys: Option<&str>, patience: Patience) -> Result<Self, String> {
        let issuers = &["https://cloud.google.com/iap"];
        let audience = audience.to_owned();
        let terms = Terms { algorithm: Algorithm::ES256, issuers, audience, verified: false, stripped: false };
        Ok(Self { terms, keys: Keys::new(keys.unwrap_or(IAP_KEYS), Algorithm::ES256, patience)? })
    }

    /// Whose token it is: an e-mail address in lower case.
    ///
    /// # Errors
    /// If it is not good at `now`, or cannot be checked. Safe to cancel.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<String, Rejection> {
        // What needs no key comes first, so that junk makes us fetch none.
        let parts = Parts::of(token)?;
        let email = self.terms.claims(&parts.claims, now.as_second()).map_err(Rejection::Invalid)?;
        let header: Header = parse(&parts.header).ok_or(Rejection::Invalid("its header is none"))?;
        // The algorithm is ours to choose; what the token says is only compared.
        if header.alg != name(self.terms.algorithm) || header.crit.is_some() {
            return Err(Rejection::Invalid("it is signed in another way"));
        }
        if self.terms.stripped && parts.signature == REMOVED {
            return Ok(email);
        }
        let key = self.keys.key(&header.kid).await?;
        let is_signed = jsonwebtoken::crypto::verify(parts.signature, parts.signed, &key, self.terms.algorithm);
        if is_signed.unwrap_or(false) { Ok(email) } else { Err(Rejection::Invalid("its signature is wrong")) }
    }
}

/// Whether Cloud Run has taken the signature off it, or somebody has written it so.
#[must_use]
pub fn is_stripped(token: &str) -> bool {
    token.rsplit_once('.').is_some_and(|(_, signature)| signature == REMOVED)
}

fn name(algorithm: Algorithm) -> &'static str {
    if algorithm == Algorithm::ES256 { "ES256" } else { "RS256" }
}

/// A token, taken apart.
struct Parts<'t> {
    header: Vec<u8>,
    claims: Vec<u8>,
    signed: &'t [u8],
    signature: &'t str,
}

impl<'t> Parts<'t> {
    fn of(token: &'t str) -> Result<Self, Rejection> {
        let wrong = Rejection::Invalid("it is no token");
        if token.len() > TOKEN_MAX {
            return Err(wrong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(wrong.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(wrong.clone())?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong.clone());
        Ok(Self { header: decoded(header)?, claims: decoded(claims)?, signed: signed.as_bytes(), signature })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// What one has to understand to take the token; we understand nothing of the kind.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// All of them have to be there, and of these types: a list of audiences, or an hour in words, is none.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    email: String,
    #[serde(default)]
    email_verified: Option<bool>,
    exp: i64,
    iat: i64,
    #[serde(default)]
    nbf: Option<i64>,
}

fn parse<T: for<'a> Deserialize<'a>>(json: &[u8]) -> Option<T> {
    serde_json::from_slice(json).ok()
}

impl Terms {
    /// The address in the claims, if they are good at `now`, in seconds.
    fn claims(&self, json: &[u8], now: i64) -> Result<String, &'static str> {
        let claims: Claims = parse(json).ok_or("a claim is missing, or is of another type")?;
        if !self.issuers.contains(&claims.iss.as_str()) {
            return Err("it is of another issuer");
        }
        if claims.aud != self.audience {
            return Err("it is made for another audience");
        }
        if claims.exp.saturating_add(LEEWAY) <= now {
            return Err("it has expired");
        }
        let begins = claims.nbf.map_or(claims.iat, |nbf| nbf.max(claims.iat));
        if begins.saturating_sub(LEEWAY) > now {
            return Err("it is of the future");
        }
        if !(0..=LIFE_MAX).contains(&claims.exp.saturating_sub(claims.iat)) {
            return Err("it lives for too long");
        }
        if claims.sub.is_empty() || claims.email.is_empty() || !claims.email.is_ascii() {
            return Err("it names nobody");
        }
        if self.verified && claims.email_verified != Some(true) {
            return Err("nobody has verified its e-mail address");
        }
        Ok(claims.email.to_ascii_lowercase())
    }
}

/// The keys at one URL.
#[derive(Clone, Debug)]
struct Keys {
    shared: Arc<Shared>,
    /// Held while they are fetched, so that all who wait are served by one call.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    url: Url,
    algorithm: Algorithm,
    patience: Patience,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: HashMap<String, Arc<DecodingKey>>,
    /// When the keys came, and until when they are fresh.
    fresh: Option<(Instant, Instant)>,
    /// When a call last ended.
    tried: Option<Instant>,
    /// Why it failed, if it did.
    failure: Option<String>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("keys", &self.keys.len()).field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// What is known of a key.
enum Known {
    Key(Arc<DecodingKey>),
    /// The same, and it is time to look for new ones.
    Ageing(Arc<DecodingKey>),
    /// It has to be looked for.
    Look,
    Not(Rejection),
}

impl Cache {
    fn look_up(&self, kid: &str, now: Instant, patience: Patience) -> Known {
        let rests = self.tried.is_some_and(|tried| now.duration_since(tried) < patience.again);
        match (self.keys.get(kid), self.fresh) {
            (Some(key), Some((came, until))) if now < until => {
                // In the last quarter of their time.
                let ages = now.duration_since(came) >= (until - came) * 3 / 4;
                if ages && !rests { Known::Ageing(Arc::clone(key)) } else { Known::Key(Arc::clone(key)) }
            }
            _ if !rests => Known::Look,
            (Some(key), Some((_, until))) if now < until + patience.grace => Known::Key(Arc::clone(key)),
            _ => match &self.failure {
                Some(failure) => Known::Not(Rejection::Unavailable(failure.clone())),
                None => Known::Not(Rejection::Invalid("nobody knows its key")),
            },
        }
    }
}

impl Keys {
    fn new(url: &str, algorithm: Algorithm, patience: Patience) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && call::is_loopback(&url)) {
            return Err(format!("{url}: keys are fetched over https, or from loopback"));
        }
        egress::declared(&url).map_err(|refused| format!("{url}: {refused}"))?;
        let client = call::client().map_err(|error| format!("set up TLS: {error}"))?;
        let shared = Shared { client, url, algorithm, patience, cache: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), fetching: Arc::default() })
    }

    async fn key(&self, kid: &str) -> Result<Arc<DecodingKey>, Rejection> {
        match self.shared.look_up(kid) {
            Known::Key(key) => return Ok(key),
            Known::Ageing(key) => {
                if let Ok(turn) = Arc::clone(&self.fetching).try_lock_owned() {
                    tokio::spawn(fetch(Arc::clone(&self.shared), turn));
                }
                return Ok(key);
            }
            Known::Look => {}
            Known::Not(rejection) => return Err(rejection),
        }
        let turn = Arc::clone(&self.fetching).lock_owned().await;
        // Somebody else may have fetched them meanwhile.
        if matches!(self.shared.look_up(kid), Known::Look) {
            // A task of its own: the call goes on though whoever asked has gone, so that leaving makes nobody call again.
            let _ = tokio::spawn(fetch(Arc::clone(&self.shared), turn)).await;
        }
        match self.shared.look_up(kid) {
            Known::Key(key) | Known::Ageing(key) => Ok(key),
            Known::Not(rejection) => Err(rejection),
            Known::Look => Err(Rejection::Unavailable("they are being fetched".to_owned())),
        }
    }
}

impl Shared {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_up(&self, kid: &str) -> Known {
        self.cache().look_up(kid, Instant::now(), self.patience)
    }

    async fn fetched(&self) -> Result<(HashMap<String, Arc<DecodingKey>>, Duration), String> {
        let call = self.client.get(self.url.clone()).timeout(self.patience.timeout);
        let answer = call.send().await.map_err(|error| call::chain(&error))?;
        if !answer.status().is_success() {
            return Err(format!("{}: {}", self.url, answer.status()));
        }
        let age = max_age(&answer).unwrap_or(AGE).min(AGE_MAX);
        let set: JwkSet = serde_json::from_slice(&body(answer).await?).map_err(|error| error.to_string())?;
        let keys: HashMap<_, _> = set.keys.iter().filter_map(|key| self.usable(key)).collect();
        if keys.is_empty() {
            return Err(format!("{}: there is no key of use among them", self.url));
        }
        Ok((keys, age))
    }

    /// A key of our kind, by its name.
    fn usable(&self, key: &Jwk) -> Option<(String, Arc<DecodingKey>)> {
        let is_ours = match &key.algorithm {
            AlgorithmParameters::RSA(_) => self.algorithm == Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) => {
                self.algorithm == Algorithm::ES256 && curve.curve == EllipticCurve::P256
            }
            _ => false,
        };
        let name = key.common.key_id.clone().filter(|_| is_ours)?;
        Some((name, Arc::new(DecodingKey::from_jwk(key).ok()?)))
    }
}

async fn fetch(shared: Arc<Shared>, turn: tokio::sync::OwnedMutexGuard<()>) {
    let fetched = shared.fetched().await;
    let now = Instant::now();
    let mut cache = shared.cache();
    cache.tried = Some(now);
    match fetched {
        Ok((keys, age)) => {
            (cache.keys, cache.fresh, cache.failure) = (keys, Some((now, now + age)), None);
        }
        Err(failure) => {
            tracing::warn!("the keys of tokens cannot be fetched: {failure}");
            cache.failure = Some(failure);
        }
    }
    drop(cache);
    drop(turn);
}

async fn body(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| call::chain(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > KEYS_MAX {
            return Err(format!("the answer has more than {KEYS_MAX} bytes"));
        }
    }
    Ok(bytes)
}

/// How long an answer says that it may be kept.
fn max_age(answer: &Response) -> Option<Duration> {
    let said = answer.headers().get(CACHE_CONTROL)?.to_str().ok()?;
    let seconds = said.split(',').find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        name.trim().eq_ignore_ascii_case("max-age").then_some(seconds)
    })?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_769_180_400;
    const AUDIENCE: &str = "https://tipoff.example";

    fn terms(verified: bool) -> Terms {
        let issuers = &["https://accounts.google.com", "accounts.google.com"];
        Terms { algorithm: Algorithm::RS256, issuers, audience: AUDIENCE.to_owned(), verified, stripped: false }
    }

    fn claims() -> Value {
        json!({ "iss": "https://accounts.google.com", "aud": AUDIENCE, "sub": "1", "email": "Push@p.example",
            "email_verified": true, "iat": NOW - 10, "exp": NOW + 3_590 })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn checked(claims: &Value) -> Result<String, &'static str> {
        terms(true).claims(claims.to_string().as_bytes(), NOW)
    }

    #[test]
    fn every_claim_has_to_be_there_and_of_its_type() {
        assert_eq!(checked(&claims()).as_deref(), Ok("push@p.example"));
        for name in ["iss", "aud", "sub", "email", "email_verified", "iat", "exp"] {
            let mut without = claims();
            without.as_object_mut().unwrap().remove(name);
            assert!(checked(&without).is_err(), "without {name}");
            for value in [json!(null), json!([]), json!({}), json!([claims()[name]]), json!(1.5), json!(-1)] {
                assert!(checked(&with(name, value.clone())).is_err(), "{name}: {value}");
            }
        }
        assert!(checked(&with("email_verified", json!(false))).is_err());
        assert!(checked(&with("email_verified", json!("true"))).is_err());
        assert!(checked(&with("sub", json!(""))).is_err());
        assert!(checked(&with("email", json!("püsh@p.example"))).is_err());
        // Which of two would count is nobody's to choose.
        let twice = claims().to_string().replace("\"sub\":\"1\"", "\"sub\":\"1\",\"aud\":\"https://tipoff.example\"");
        assert!(terms(true).claims(twice.as_bytes(), NOW).is_err());
        // The proxy does not say it, and is asked for what it does say.
        let mut proxied = claims();
        proxied.as_object_mut().unwrap().remove("email_verified");
        assert!(terms(false).claims(proxied.to_string().as_bytes(), NOW).is_ok());
    }

    #[test]
    fn hours_are_right_to_the_second() {
        let span = |iat: i64, exp: i64| {
            let mut claims = with("iat", json!(NOW + iat));
            claims["exp"] = json!(NOW + exp);
            checked(&claims).is_ok()
        };
        assert!(span(-3_600, -29) && !span(-3_600, -30) && !span(-3_600, -31), "after its end");
        assert!(span(29, 3_600) && span(30, 3_600) && !span(31, 3_600), "before its beginning");
        assert!(span(0, 3_660) && !span(0, 3_661), "a life of an hour and a minute");
        assert!(!span(-10, 10 * 365 * 86_400), "a life of ten years");
        assert!(!span(10, 5), "an end before its beginning");
        let nbf = |nbf: i64| checked(&with("nbf", json!(NOW + nbf))).is_ok();
        assert!(nbf(-5) && nbf(30) && !nbf(31));
        for end in [i64::MAX, i64::MIN] {
            assert!(checked(&with("exp", json!(end))).is_err());
            assert!(checked(&with("iat", json!(end))).is_err());
        }
    }

    #[test]
    fn another_issuer_or_audience_is_refused_to_the_letter() {
        assert!(checked(&with("iss", json!("accounts.google.com"))).is_ok());
        for issuer in ["https://accounts.google.com/", "http://accounts.google.com", "https://evil.example"] {
            assert!(checked(&with("iss", json!(issuer))).is_err(), "{issuer}");
        }
        for audience in ["https://tipoff.example/", "https://TIPOFF.example", "tipoff.example", ""] {
            assert!(checked(&with("aud", json!(audience))).is_err(), "{audience}");
        }
        assert!(checked(&with("aud", json!([AUDIENCE, "other"]))).is_err());
    }

    proptest! {
        /// Nothing that is sent breaks it, and nothing is taken for a token that is none.
        #[test]
        fn no_token_breaks_it(token in "\\PC{0,200}", header in "\\PC{0,60}", claims in "\\PC{0,60}") {
            let parts = Parts::of(&token);
            prop_assert!(parts.is_err() || token.matches('.').count() >= 2);
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let made = format!("{}.{}.x", part(&header), part(&claims));
            let parts = Parts::of(&made).unwrap();
            prop_assert!(parse::<Header>(&parts.header).is_none());
            prop_assert!(terms(true).claims(&parts.claims, NOW).is_err());
        }
    }

    #[test]
    fn keys_are_looked_for_when_that_can_help_and_not_more_often() {
        let patience =
            Patience { again: Duration::from_secs(30), grace: Duration::from_secs(100), ..Patience::default() };
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let key = Arc::new(DecodingKey::from_secret(b"any"));
        let mut cache = Cache::default();
        assert!(matches!(cache.look_up("k", at(0), patience), Known::Look));
        cache.tried = Some(at(0));
        cache.failure = Some("down".to_owned());
        assert!(matches!(cache.look_up("k", at(29), patience), Known::Not(Rejection::Unavailable(_))));
        assert!(matches!(cache.look_up("k", at(30), patience), Known::Look));
        cache = Cache {
            keys: [("k".to_owned(), key)].into(),
            fresh: Some((at(0), at(400))),
            tried: Some(at(0)),
            failure: None,
        };
        assert!(matches!(cache.look_up("k", at(299), patience), Known::Key(_)));
        assert!(matches!(cache.look_up("k", at(300), patience), Known::Ageing(_)));
        assert!(matches!(cache.look_up("other", at(29), patience), Known::Not(Rejection::Invalid(_))));
        assert!(matches!(cache.look_up("other", at(30), patience), Known::Look));
        // They cannot be fetched any more.
        cache.tried = Some(at(390));
        cache.failure = Some("down".to_owned());
        assert!(matches!(cache.look_up("k", at(395), patience), Known::Key(_)));
        assert!(matches!(cache.look_up("k", at(410), patience), Known::Key(_)), "in its grace");
        assert!(matches!(cache.look_up("other", at(410), patience), Known::Not(Rejection::Unavailable(_))));
        cache.tried = Some(at(495));
        assert!(matches!(cache.look_up("k", at(499), patience), Known::Key(_)));
        assert!(matches!(cache.look_up("k", at(500), patience), Known::Not(Rejection::Unavailable(_))), "after it");
    }
}
