//! Who may call: on loopback anybody on this machine, but no page of another site; elsewhere whoever has the token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::App;
use super::problem::Problem;

/// Says where a request comes from; browsers send it, and no page can change it.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The rule.
#[derive(Debug)]
pub struct Guard {
    token: Option<[u8; 32]>,
}

impl Guard {
    /// Requires `token`, if there is one: as a bearer token, or as the password that a browser asks for.
    pub fn new(token: Option<&str>) -> Self {
        Self { token: token.map(|token| Sha256::digest(token.as_bytes()).into()) }
    }

    /// Whether `authorization` carries the token. Digests are compared, so timing tells nothing of the token.
    fn admits(&self, authorization: Option<&str>) -> bool {
        let Some(expected) = &self.token else { return true };
        let bearer = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let given = bearer.or_else(|| basic(authorization).map(|(_, password)| password)).unwrap_or_default();
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        given == *expected
    }
}

/// The name and the password that a browser's user has typed.
fn basic(authorization: Option<&str>) -> Option<(String, String)> {
    let given = STANDARD.decode(authorization?.strip_prefix("Basic ")?).ok()?;
    let (name, password) = std::str::from_utf8(&given).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// As whom a browser's user has signed in, where that was asked.
pub fn user(headers: &HeaderMap) -> Option<String> {
    basic(text(headers, header::AUTHORIZATION.as_str())).map(|(name, _)| name).filter(|name| !name.is_empty())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Refuses strangers and other sites' pages.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match refusal(&app.guard, request.method(), request.uri().path(), request.headers()) {
        Some((code, words)) => {
            let page =
                text(request.headers(), header::ACCEPT.as_str()).is_some_and(|kinds| kinds.contains("text/html"));
            let mut response = Problem::new(code, "refused", words).into_response();
            if code == StatusCode::UNAUTHORIZED {
                // A browser asks its user for a name, which becomes the actor, and for the token as the password.
                let way = if page { "Basic realm=\"tipoff\", charset=\"UTF-8\"" } else { "Bearer" };
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(way));
            }
            response
        }
        None => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
            response
        }
    }
}

fn refusal(guard: &Guard, method: &Method, path: &str, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    if !guard.admits(text(headers, header::AUTHORIZATION.as_str())) {
        return Some((StatusCode::UNAUTHORIZED, "a token is required"));
    }
    // A page in the operator's browser can reach loopback; what it sends says whose page it is, what a program sends does not.
    if headers.contains_key(header::ORIGIN) && !is_own_origin(headers) {
        return Some((StatusCode::FORBIDDEN, "requests from other sites' pages are refused"));
    }
    let site = text(headers, SEC_FETCH_SITE);
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        // A link to a page may stand anywhere; a picture, a script or a form of another site may not.
        let is_link = text(headers, "sec-fetch-mode") == Some("navigate") && method.is_safe();
        if !(is_link && super::pages::is_page(path)) {
            return Some((StatusCode::FORBIDDEN, "requests from other sites' pages are refused"));
        }
    }
    // A name that resolves to loopback is how a page gets around its origin.
    if guard.token.is_none() && !text(headers, header::HOST.as_str()).is_none_or(is_local) {
        return Some((StatusCode::FORBIDDEN, "without a token only loopback names are answered"));
    }
    None
}

/// Whether a form was sent by one of our own pages: the browser must say so.
pub fn is_own_form(headers: &HeaderMap) -> bool {
    text(headers, SEC_FETCH_SITE) == Some("same-origin") || is_own_origin(headers)
}

/// Whether the origin is that of the host that was asked.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let (origin, host) = (text(headers, header::ORIGIN.as_str()), text(headers, header::HOST.as_str()));
    let origin = origin.and_then(|origin| origin.strip_prefix("http://").or(origin.strip_prefix("https://")));
    origin.is_some() && origin == host
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
        // What a browser sends once its user has typed the token as the password.
        let typed = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert!(guard.admits(Some(&typed("ann:s3cret"))));
        assert!(!guard.admits(Some(&typed("s3cret:ann"))));
        assert!(!guard.admits(Some("Basic !")));
    }

    #[test]
    fn other_sites_pages_can_link_to_ours_and_do_nothing_else() {
        let guard = Guard::new(None);
        let headers = |given: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("localhost:8085"));
            for (name, value) in given {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let code = |method: Method, path: &str, given: &[(&'static str, &'static str)]| {
            refusal(&guard, &method, path, &headers(given)).map_or(200, |(code, _)| code.as_u16())
        };
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(code(Method::GET, "/ui/nba", &link), 200);
        assert_eq!(code(Method::GET, "/game-coverage-alert", &link), 403);
        assert_eq!(code(Method::POST, "/ui/nba/2026-01-22/ask", &link), 403);
        assert_eq!(
            code(Method::GET, "/ui/nba", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]),
            403
        );
        assert_eq!(code(Method::POST, "/push", &[("origin", "http://localhost:8085")]), 200);
        for origin in ["http://localhost:8086", "https://evil.example", "null", "http://localhost:8085.evil.example"] {
            assert_eq!(code(Method::POST, "/push", &[("origin", origin)]), 403, "{origin}");
        }
        assert!(is_own_form(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(!is_own_form(&headers(&[])));
    }
}
