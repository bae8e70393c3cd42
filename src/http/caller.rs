//! Who calls, and how that is known: by being on this machine, by a token, or by a token of Google's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::problem::Problem;
use crate::adapter::google::token::{Patience, Rejection, Verifier, is_stripped};
use crate::clock::Clock;
use crate::configuration::{Access, Configuration, Identities, PushMode, Role, Token};
use crate::desk::words::clean;
use crate::domain::words::ACTOR_MAX;

/// Where the Identity-Aware Proxy says whom it has let through.
const IAP_ASSERTION: &str = "x-goog-iap-jwt-assertion";
/// Where Cloud Run looks for a token first. It then leaves `Authorization` as whoever calls has written it.
const SERVERLESS: &str = "x-serverless-authorization";
/// Characters of a token that somebody has chosen: 32 random bytes in base64 have 43.
const TOKEN_MIN: usize = 32;
/// The same of the one token of `token_file`, which is older than that rule.
const SHARED_MIN: usize = 16;
/// Set in the mode of a file that every user may read.
const READABLE: u32 = 0o004;
/// Under which name that one's requests are kept.
const SHARED: &str = "shared";

/// Who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Under which name: a token's, or an e-mail address.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// How that is known.
    pub how: How,
    /// As whom a browser's user has signed in, where a token was the password.
    user: Option<Arc<str>>,
}

/// How it is known who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Nobody is asked on this machine.
    Loopback,
    /// They have a token.
    Token,
    /// Google says so.
    Google,
}

impl How {
    /// As it is logged.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Token => "token",
            Self::Google => "google",
        }
    }
}

impl Caller {
    pub(super) fn new(name: &str, role: Role, how: How) -> Self {
        Self { name: name.into(), role, how, user: None }
    }

    fn local() -> Self {
        Self::new("local", Role::Admin, How::Loopback)
    }

    /// Who is said to have asked for something, where `typed` is what they call themselves: that alone on this machine; with
    /// the token's name, where several people may have the token; and not at all where Google says who it is. What is in
    /// parentheses is our word, so those that are typed are left out, and what nobody sees as well.
    #[must_use]
    pub fn actor(&self, typed: &str) -> String {
        // What is too long is refused as it came, whatever would be left of it.
        if !matches!(self.how, How::Google) && typed.chars().count() > ACTOR_MAX {
            return typed.to_owned();
        }
        let typed: String = clean(typed, usize::MAX).chars().filter(|letter| !is_bracket(*letter)).collect();
        let typed = typed.trim();
        match self.how {
            How::Loopback => typed.to_owned(),
            // What is left out is told as missing.
            How::Token if typed.is_empty() => String::new(),
            How::Token => format!("{typed} (token {})", self.name),
            How::Google => self.name.to_string(),
        }
    }

    /// What they are likely to call themselves, and whether that is certain.
    #[must_use]
    pub fn likely(&self) -> (Option<&str>, bool) {
        match self.how {
            How::Google => (Some(&self.name), true),
            How::Token | How::Loopback => (self.user.as_deref(), false),
        }
    }
}

/// Parentheses, and what looks like them or ends a line.
fn is_bracket(letter: char) -> bool {
    matches!(
        letter,
        '(' | ')' | '\n' | '\t' | '\u{207d}' | '\u{207e}' | '\u{208d}' | '\u{208e}' | '\u{2768}'..='\u{276b}'
    ) || matches!(
        letter,
        '\u{2985}' | '\u{2986}' | '\u{2e28}' | '\u{2e29}' | '\u{fe35}' | '\u{fe36}' | '\u{fe59}' | '\u{fe5a}'
    ) || matches!(letter, '\u{ff08}' | '\u{ff09}' | '\u{ff5f}' | '\u{ff60}')
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::Stranger.into())
    }
}

/// A call with who makes it.
#[derive(Debug)]
pub struct Incoming {
    /// Who.
    pub caller: Caller,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it is made to.
    pub uri: Uri,
    /// What it says.
    pub body: Body,
}

impl<S: Sync> FromRequest<S> for Incoming {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, state).await?;
        Ok(Self { caller, headers: parts.headers, uri: parts.uri, body })
    }
}

/// What a call says of who makes it, to be looked at again.
pub struct Credentials(HeaderMap);

impl Credentials {
    /// Those among the headers of a call.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let said = [header::AUTHORIZATION.as_str(), IAP_ASSERTION, SERVERLESS];
        let said = headers.iter().filter(|(name, _)| said.contains(&name.as_str()));
        let mut kept = HeaderMap::new();
        for (name, value) in said {
            kept.append(name, value.clone());
        }
        Self(kept)
    }

    /// The same as headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Why somebody is not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// They say nothing of who they are.
    Stranger,
    /// What they say is not so. The words are for our log.
    Unknown(&'static str),
    /// They may be who they say, which cannot be found out at the moment.
    Unavailable,
    /// They may not do that.
    Role(Role),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stranger => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "say who you are: a token is required")
            }
            Refusal::Unknown(_) => Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "the token is not accepted"),
            Refusal::Unavailable => Self::unavailable("tokens cannot be checked at the moment; ask again"),
            Refusal::Role(role) => {
                let role = serde_json::json!(role);
                let why = format!("your role is {}, which may not do that", role.as_str().unwrap_or_default());
                Self::new(StatusCode::FORBIDDEN, "forbidden", why)
            }
        }
    }
}

/// What is wrong with who may call, in the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Error {
    key: String,
    message: String,
}

fn wrong(key: impl Into<String>, message: impl Into<String>) -> Error {
    Error { key: key.into(), message: message.into() }
}

/// What one token's digests are, of which every one is good.
#[derive(Debug)]
struct Known {
    name: String,
    role: Role,
    digests: Vec<[u8; 32]>,
}

/// Callers whom Google vouches for.
#[derive(Debug)]
struct Vouched {
    verifier: Verifier,
    roles: std::collections::BTreeMap<String, Role>,
}

impl Vouched {
    async fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        let email = self.verifier.verify(token, Clock::System.now()).await.map_err(|rejection| match rejection {
            Rejection::Invalid(why) => Refusal::Unknown(why),
            Rejection::Unavailable(_) => Refusal::Unavailable,
        })?;
        let role = self.roles.get(&email).ok_or(Refusal::Unknown("nobody with that address may call"))?;
        Ok(Caller::new(&email, *role, How::Google))
    }
}

/// Who may push.
#[derive(Debug)]
enum Pushers {
    Nobody,
    Producers,
    Vouched(Vouched),
}

/// Who may call.
#[derive(Debug)]
pub struct Callers {
    tokens: Vec<Known>,
    iap: Option<Vouched>,
    google: Option<Vouched>,
    pushers: Pushers,
}

impl Callers {
    /// Everybody on this machine, and nobody else.
    #[must_use]
    pub fn local() -> Self {
        Self { tokens: Vec::new(), iap: None, google: None, pushers: Pushers::Producers }
    }

    /// Goes on with the keys that those before have fetched: who was known is known, whether or not they can be fetched now.
    pub fn go_on_from(&mut self, before: &Self) {
        if let (Some(own), Some(before)) = (&mut self.iap, &before.iap) {
            own.verifier.go_on_from(&before.verifier);
        }
        if let (Some(own), Some(before)) = (&mut self.google, &before.google) {
            own.verifier.go_on_from(&before.verifier);
        }
        if let (Pushers::Vouched(own), Pushers::Vouched(before)) = (&mut self.pushers, &before.pushers) {
            own.verifier.go_on_from(&before.verifier);
        }
    }

    /// Whom the configuration names. Files and variables with tokens are read now; nobody is called yet.
    ///
    /// # Errors
    /// What is wrong with it, by key; also if nobody is named and the address is not loopback.
    pub fn of(configuration: &Configuration) -> Result<Self, Error> {
        let mut callers = Self { pushers: Pushers::Nobody, ..Self::local() };
        let Access { tokens, iap, google, .. } = &configuration.access;
        for (name, token) in tokens {
            callers.tokens.push(known(name, token)?);
        }
        if let Some(shared) = shared(configuration)? {
            callers.tokens.push(shared);
        }
        callers.iap = iap.as_ref().map(proxied).transpose()?;
        callers.google = google.as_ref().map(vouched).transpose()?;
        let is_local = configuration.listen.ip().is_loopback();
        if callers.is_open() && !is_local {
            let why = format!(
                "{} is not loopback: give --token-file, say under access who may call, or listen on 127.0.0.1",
                configuration.listen
            );
            return Err(wrong("listen", why));
        }
        callers.pushers = pushers(configuration, is_local)?;
        Ok(callers)
    }

    /// Whether nobody is asked who they are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.iap.is_none() && self.google.is_none()
    }

    /// Whether a browser's user can type a token.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether anybody may push.
    #[must_use]
    pub fn takes_pushes(&self) -> bool {
        !matches!(self.pushers, Pushers::Nobody)
    }

    /// Who makes a call with these headers. Safe to cancel.
    ///
    /// # Errors
    /// If that is nobody who may call.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        if self.is_open() {
            return Ok(Caller { user: basic(headers).and_then(|(user, _)| user), ..Caller::local() });
        }
        // What the proxy asserts, only it can have written; so nobody gets past it by another name.
        if let (Some(iap), Some(assertion)) = (&self.iap, headers.get(IAP_ASSERTION)) {
            return iap.caller(assertion.to_str().map_err(|_| Refusal::Unknown("it is no token"))?).await;
        }
        let (user, given) = match (bearer(headers), basic(headers)) {
            (Some(given), _) => (None, given.to_owned()),
            (None, Some(typed)) => typed,
            (None, None) => return Err(Refusal::Stranger),
        };
        if let Some(caller) = self.with_token(&given) {
            return Ok(Caller { user, ..caller });
        }
        match &self.google {
            Some(google) => google.caller(signed(headers, &given)?).await,
            None => Err(Refusal::Unknown("nobody has that token")),
        }
    }

    /// Who pushes an envelope with these headers: a producer, if they may push. Safe to cancel.
    ///
    /// # Errors
    /// If that is nobody who is known.
    pub async fn pusher(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        match &self.pushers {
            Pushers::Vouched(vouched) => {
                let given = bearer(headers).ok_or(Refusal::Stranger)?;
                vouched.caller(signed(headers, given)?).await
            }
            Pushers::Producers | Pushers::Nobody => self.caller(headers).await,
        }
    }

    /// Whose token it is. All are compared to their ends, so that time tells nothing.
    fn with_token(&self, given: &str) -> Option<Caller> {
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        let mut found = None;
        for known in &self.tokens {
            let mut is_it = Choice::from(0);
            for digest in &known.digests {
                is_it |= digest.ct_eq(&given);
            }
            if bool::from(is_it) {
                found = Some(Caller::new(&known.name, known.role, How::Token));
            }
        }
        found
    }
}

/// A token that is signed, or whose signature Cloud Run has taken off after it had checked it: that of the one header in which it
/// looks, and no other.
fn signed<'t>(headers: &HeaderMap, token: &'t str) -> Result<&'t str, Refusal> {
    let is_checked = bearer(headers) == Some(token) && !headers.contains_key(SERVERLESS);
    if is_stripped(token) && !is_checked {
        return Err(Refusal::Unknown("its signature is taken off, and not by Cloud Run"));
    }
    Ok(token)
}

/// What is given by a scheme, in whatever case it is written; nothing where two are, for one of them would be a stranger's.
fn given<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let one = all.next()?.to_str().ok()?;
    let (written, given) = one.split_once(' ')?;
    (all.next().is_none() && written.eq_ignore_ascii_case(scheme)).then(|| given.trim_start_matches(' '))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    given(headers, "Bearer")
}

/// The name and the password that a browser's user has typed.
fn basic(headers: &HeaderMap) -> Option<(Option<Arc<str>>, String)> {
    let given = STANDARD.decode(given(headers, "Basic")?).ok()?;
    let (name, password) = std::str::from_utf8(&given).ok()?.split_once(':')?;
    Some((Some(name).filter(|name| !name.is_empty()).map(Into::into), password.to_owned()))
}

/// The digest of a token, as it is written where the token itself shall not be.
#[must_use]
pub fn digest(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digests of tokens in a text, one or several of them; `sha256:` begins one that is a digest already.
fn digests(text: &str, least: usize) -> Result<Vec<[u8; 32]>, String> {
    let one = |word: &str| match word.strip_prefix("sha256:") {
        Some(hex) => from_hex(hex).ok_or_else(|| "after sha256: come 64 hexadecimal digits".to_owned()),
        None if word.len() < least => {
            Err(format!("a token has at least {least} characters; `tipoff token` makes a good one"))
        }
        None => Ok(Sha256::digest(word.as_bytes()).into()),
    };
    let digests = text.split_whitespace().map(one).collect::<Result<Vec<_>, _>>()?;
    if digests.is_empty() { Err("there is no token in it".to_owned()) } else { Ok(digests) }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn known(name: &str, token: &Token) -> Result<Known, Error> {
    let key = format!("access.tokens.{name}");
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 40 || !name.bytes().all(is_name) {
        return Err(wrong(key, "a token's name has at most 40 letters, digits, `-`, `_` and `.`"));
    }
    if name == SHARED {
        return Err(wrong(key, "that is the name of the one in token_file; take another"));
    }
    let (key, text) = match (&token.file, &token.env, &token.sha256) {
        (Some(path), None, None) => {
            let key = format!("{key}.file");
            let text = read(&key, path)?;
            (key, text)
        }
        (None, Some(variable), None) => {
            let key = format!("{key}.env");
            let text = std::env::var(variable).map_err(|_| wrong(&key, format!("{variable} is not set")))?;
            (key, text)
        }
        (None, None, Some(digests)) => {
            let text = digests.split_whitespace().map(|digest| format!("sha256:{digest} ")).collect();
            (format!("{key}.sha256"), text)
        }
        _ => return Err(wrong(key, "say where it is: one of file, env and sha256")),
    };
    let digests = digests(&text, TOKEN_MIN).map_err(|why| wrong(key, why))?;
    Ok(Known { name: name.to_owned(), role: token.role, digests })
}

/// A file with a token. A token that everybody on the machine can read is no secret there.
fn read(key: &str, path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| wrong(key, format!("read {}: {error}", path.display())))?;
    if is_open(path, &text) {
        tracing::warn!(key, "{} can be read by every user of this machine: chmod o-r", path.display());
    }
    Ok(text)
}

/// Whether a file tells every user of this machine what lets somebody in.
fn is_open(path: &Path, text: &str) -> bool {
    let is_readable = path.metadata().is_ok_and(|file| file.permissions().mode() & READABLE != 0);
    is_readable && !text.split_whitespace().all(|word| word.starts_with("sha256:"))
}

/// The files with tokens that every user of this machine can read.
pub fn open_files(configuration: &Configuration) -> Vec<&Path> {
    let named = configuration.access.tokens.values().filter_map(|token| token.file.as_deref());
    let files = configuration.token_file.as_deref().into_iter().chain(named);
    files.filter(|path| std::fs::read_to_string(path).is_ok_and(|text| is_open(path, &text))).collect()
}

/// The one token that may do everything.
fn shared(configuration: &Configuration) -> Result<Option<Known>, Error> {
    let (key, text) = match (&configuration.token_file, &configuration.token) {
        (Some(path), _) => ("token_file", read("token_file", path)?),
        (None, Some(token)) => ("token", token.reveal().to_owned()),
        (None, None) => return Ok(None),
    };
    let digests = digests(&text, SHARED_MIN).map_err(|why| wrong(key, why))?;
    Ok(Some(Known { name: SHARED.to_owned(), role: Role::Admin, digests }))
}

/// Addresses as they are compared.
fn address(key: &str, email: &str) -> Result<String, Error> {
    if !email.is_ascii() || !email.contains('@') || email.contains(char::is_whitespace) {
        return Err(wrong(key, format!("`{}` is no e-mail address", email.escape_debug())));
    }
    Ok(email.to_ascii_lowercase())
}

fn roles(key: &str, identities: &Identities) -> Result<std::collections::BTreeMap<String, Role>, Error> {
    if identities.audience.trim().is_empty() {
        return Err(wrong(format!("{key}.audience"), "say for whom the tokens are made"));
    }
    let key = format!("{key}.roles");
    if identities.roles.is_empty() {
        return Err(wrong(key, "nobody could call: say what each e-mail address may do"));
    }
    identities.roles.iter().map(|(email, role)| Ok((address(&key, email)?, *role))).collect()
}

fn proxied(identities: &Identities) -> Result<Vouched, Error> {
    let roles = roles("access.iap", identities)?;
    if identities.cloud_run_iam {
        return Err(wrong(
            "access.iap.cloud_run_iam",
            "the proxy's assertions come signed; say it under access.google",
        ));
    }
    let verifier = Verifier::of_iap(&identities.audience, identities.keys.as_deref(), Patience::default());
    Ok(Vouched { verifier: verifier.map_err(|why| wrong("access.iap.keys", why))?, roles })
}

fn vouched(identities: &Identities) -> Result<Vouched, Error> {
    let roles = roles("access.google", identities)?;
    let stripped = identities.cloud_run_iam;
    on_cloud_run("access.google.cloud_run_iam", stripped)?;
    let (audience, keys) = (&identities.audience, identities.keys.as_deref());
    let verifier = Verifier::of_identities(audience, keys, stripped, Patience::default());
    Ok(Vouched { verifier: verifier.map_err(|why| wrong("access.google.keys", why))?, roles })
}

/// A signature is done without only where Cloud Run has checked it.
fn on_cloud_run(key: &str, wanted: bool) -> Result<(), Error> {
    if wanted && std::env::var_os("K_SERVICE").is_none_or(|service| service.is_empty()) {
        return Err(wrong(key, "this is not Cloud Run (K_SERVICE is not set), so nobody has checked any signature"));
    }
    Ok(())
}

fn pushers(configuration: &Configuration, is_local: bool) -> Result<Pushers, Error> {
    let push = &configuration.push;
    let mode = match push.mode {
        Some(mode) => mode,
        None if push.audience.is_some() || !push.emails.is_empty() => {
            return Err(wrong("push.mode", "say how it is known who pushes: off, token, oidc or cloud_run_iam"));
        }
        // Elsewhere it has to be said.
        None if is_local => PushMode::Token,
        None => PushMode::Off,
    };
    let stripped = match mode {
        PushMode::Off => return Ok(Pushers::Nobody),
        PushMode::Token => return Ok(Pushers::Producers),
        PushMode::Oidc => false,
        PushMode::CloudRunIam => true,
    };
    on_cloud_run("push.mode", stripped)?;
    let Some(audience) = push.audience.as_deref().filter(|audience| !audience.trim().is_empty()) else {
        return Err(wrong("push.audience", "say for whom the tokens are made, as the subscription has it"));
    };
    if push.emails.is_empty() {
        return Err(wrong("push.emails", "nobody could push: name the service account of the subscription"));
    }
    let emails = push.emails.iter().map(|email| Ok((address("push.emails", email)?, Role::Producer)));
    let roles = emails.collect::<Result<_, _>>()?;
    let verifier = Verifier::of_identities(audience, push.keys.as_deref(), stripped, Patience::default());
    Ok(Pushers::Vouched(Vouched { verifier: verifier.map_err(|why| wrong("push.keys", why))?, roles }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    fn configuration(yaml: &str) -> Configuration {
        Configuration::read("tipoff.yaml", yaml).unwrap()
    }

    fn told(yaml: &str) -> String {
        Callers::of(&configuration(yaml)).map(|_| "nothing".to_owned()).unwrap_or_else(|error| error.to_string())
    }

    fn with(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(authorization).unwrap())])
    }

    #[tokio::test]
    async fn a_token_is_known_by_its_digest_and_two_are_good_at_once() {
        let (old, new) = (digest(LONG), digest("another-token-another-token-another"));
        let yaml = format!("access: {{ tokens: {{ deploy: {{ role: operator, sha256: '{old} {new}' }} }} }}");
        let callers = Callers::of(&configuration(&yaml)).unwrap();
        for token in [LONG, "another-token-another-token-another"] {
            let caller = callers.caller(&with(&format!("Bearer {token}"))).await.unwrap();
            assert_eq!((&*caller.name, caller.role, caller.how), ("deploy", Role::Operator, How::Token));
        }
        // A scheme is written in any case; a second header beside it is somebody else's word.
        let mut twice = with(&format!("bearer {LONG}"));
        assert!(callers.caller(&twice).await.is_ok());
        twice.append(header::AUTHORIZATION, "Basic eA==".parse().unwrap());
        assert!(callers.caller(&twice).await.is_err());
        let typed = format!("Basic {}", STANDARD.encode(format!("ann:{LONG}")));
        let caller = callers.caller(&with(&typed)).await.unwrap();
        assert_eq!(caller.likely(), (Some("ann"), false));
        assert_eq!(caller.actor(" ann "), "ann (token deploy)");
        for disguised in ["root (token admin)", "root （token admin）", "ro\u{202e}ot\n (token\u{0} admin)"] {
            assert_eq!(caller.actor(disguised), "root token admin (token deploy)", "{disguised:?}");
        }
        assert_eq!(caller.actor(" () "), "");
        for wrong in
            [&format!("Bearer {old}"), &format!("Bearer {}x", LONG), &format!("Bearer{LONG}"), "Bearer ", "Basic !"]
        {
            assert!(callers.caller(&with(wrong)).await.is_err(), "{wrong}");
        }
        assert_eq!(callers.caller(&HeaderMap::new()).await, Err(Refusal::Stranger));
        assert!(!format!("{callers:?}").contains(LONG));
    }

    #[tokio::test]
    async fn whoever_is_on_this_machine_is_asked_nothing() {
        let callers = Callers::of(&Configuration::default()).unwrap();
        let caller = callers.caller(&HeaderMap::new()).await.unwrap();
        assert_eq!((caller.role, caller.actor("ann").as_str()), (Role::Admin, "ann"));
        assert_eq!(caller.actor("root (token admin)"), "root token admin");
        assert!(callers.takes_pushes());
    }

    #[test]
    fn what_is_wrong_with_who_may_call_is_said_by_its_key() {
        let tokens = |token: &str| told(&format!("access: {{ tokens: {{ a: {{ role: viewer, {token} }} }} }}"));
        let far = "listen: 0.0.0.0:80\n";
        let vouched = |rest: &str| told(&format!("access: {{ google: {{ audience: x, {rest} }} }}"));
        for (said, words) in [
            (told(far), "listen: 0.0.0.0:80 is not loopback: give --token-file"),
            (tokens("sha256: abc"), "access.tokens.a.sha256: after sha256: come 64"),
            (tokens("env: TIPOFF_NOT_SET"), "access.tokens.a.env: TIPOFF_NOT_SET is not set"),
            (tokens("file: no-such-file"), "access.tokens.a.file: read no-such-file"),
            (tokens("file: x, env: X"), "access.tokens.a: say where it is"),
            (told("token: short"), "token: a token has at least 16"),
            (vouched("roles: {}"), "access.google.roles: nobody could call"),
            (vouched("roles: { ann: viewer }"), "access.google.roles: `ann` is no e-mail"),
            (
                vouched("roles: { a@b: viewer }, keys: 'http://x.example/'"),
                "access.google.keys: http://x.example/: keys are",
            ),
            (
                vouched("roles: { a@b: viewer }, cloud_run_iam: true"),
                "access.google.cloud_run_iam: this is not Cloud Run",
            ),
            (told("push: { audience: x }"), "push.mode: say how"),
            (told("push: { mode: oidc }"), "push.audience: say for whom"),
            (told("push: { mode: oidc, audience: x }"), "push.emails: nobody could push"),
            (told("push: { mode: cloud_run_iam, audience: x, emails: [a@b] }"), "push.mode: this is not Cloud Run"),
            (told("push: { mode: oidc, audience: x, emails: [a@b] }"), "nothing"),
        ] {
            assert!(said.contains(words), "{said:?} does not say {words:?}");
        }
    }

    #[tokio::test]
    async fn what_cloud_run_has_not_checked_is_not_taken_for_checked() {
        let now = Clock::System.now().as_second();
        let claims = serde_json::json!({ "iss": "https://accounts.google.com", "aud": "a", "sub": "1",
            "email": "ann@example.org", "email_verified": true, "iat": now, "exp": now + 600 });
        let part = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let head = part(r#"{"alg":"RS256","kid":"k"}"#);
        let token = format!("{head}.{}.SIGNATURE_REMOVED_BY_GOOGLE", part(&claims.to_string()));
        let vouched = || {
            let verifier = Verifier::of_identities("a", None, true, Patience::default()).unwrap();
            Vouched { verifier, roles: [("ann@example.org".to_owned(), Role::Operator)].into() }
        };
        let callers = Callers { google: Some(vouched()), pushers: Pushers::Vouched(vouched()), ..Callers::local() };
        let checked = with(&format!("Bearer {token}"));
        assert_eq!(&*callers.caller(&checked).await.unwrap().name, "ann@example.org");
        assert_eq!(&*callers.pusher(&checked).await.unwrap().name, "ann@example.org");
        // Cloud Run checks this one instead, which is of anybody who may call at all.
        let mut beside = checked.clone();
        beside.insert(SERVERLESS, HeaderValue::from_static("Bearer x"));
        let mut empty = checked;
        empty.insert(SERVERLESS, HeaderValue::from_static(""));
        let typed = with(&format!("Basic {}", STANDARD.encode(format!("ann:{token}"))));
        for headers in [&beside, &empty, &typed] {
            let refused = Refusal::Unknown("its signature is taken off, and not by Cloud Run");
            assert_eq!(callers.caller(headers).await.unwrap_err(), refused, "{headers:?}");
            assert!(callers.pusher(headers).await.is_err(), "{headers:?}");
            assert!(callers.caller(Credentials::of(headers).headers()).await.is_err(), "{headers:?}");
        }
    }

    #[test]
    fn elsewhere_nobody_pushes_unless_it_is_said_who() {
        let takes = |rest: &str| {
            let yaml = format!("listen: 0.0.0.0:80\ntoken: {LONG}\n{rest}");
            Callers::of(&configuration(&yaml)).unwrap().takes_pushes()
        };
        assert!(!takes(""));
        assert!(!takes("push: { mode: off }"));
        assert!(takes("push: { mode: token }"));
        assert!(takes("push: { mode: oidc, audience: x, emails: [a@b] }"));
    }
}
