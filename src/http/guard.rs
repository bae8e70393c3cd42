//! Who may call: on loopback anybody on this machine but not a web page; elsewhere whoever has the token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::App;

/// The rule.
#[derive(Debug)]
pub struct Guard {
    token: Option<[u8; 32]>,
}

impl Guard {
    /// Requires `token` as a bearer token, if there is one.
    pub fn new(token: Option<&str>) -> Self {
        Self { token: token.map(|token| Sha256::digest(token.as_bytes()).into()) }
    }

    /// Whether `authorization` carries the token. Digests are compared, so timing tells nothing of the token.
    fn admits(&self, authorization: Option<&str>) -> bool {
        let Some(expected) = &self.token else { return true };
        let given = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        given == *expected
    }
}

/// Refuses strangers and web pages.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match refusal(&app.guard, request.headers()) {
        Some((code, words)) => (code, words).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(guard: &Guard, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if !guard.admits(text(header::AUTHORIZATION)) {
        return Some((StatusCode::UNAUTHORIZED, "a bearer token is required\n"));
    }
    // A page in the operator's browser can reach loopback; what it sends has an Origin, what a program sends has none.
    if headers.contains_key(header::ORIGIN) {
        return Some((StatusCode::FORBIDDEN, "requests from web pages are refused\n"));
    }
    // A name that resolves to loopback is how a page gets around its origin.
    if guard.token.is_none() && !text(header::HOST).is_none_or(is_local) {
        return Some((StatusCode::FORBIDDEN, "without a token only loopback names are answered\n"));
    }
    None
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        for host in ["localhost:8080", "127.0.0.1", "127.9.0.1:80", "[::1]:8080"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn the_token_admits_and_nothing_else_does() {
        let guard = Guard::new(Some("s3cret"));
        assert!(guard.admits(Some("Bearer s3cret")));
        assert!(!guard.admits(Some("Bearer s3cre")));
        assert!(!guard.admits(Some("s3cret")));
        assert!(!guard.admits(None));
        assert!(Guard::new(None).admits(None));
    }
}
