//! Who may call what: on loopback anybody on this machine, but no page of another site; elsewhere whoever is named.
//!
//! A call is looked at in this order, and its body is not read before it has passed: its path and length, whose page sent
//! it, who makes it, what they may do, how much they ask for. What nobody may do is refused without a word of what there is,
//! and is told to whoever reads the log, as is who has asked for what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::audit::{Audit, Call, Kind};
use super::caller::{Caller, Callers, How, Refusal};
use super::problem::Problem;
use super::routes::{Needs, Table};
use super::{App, BODY_MAX};
use crate::configuration::Role;

/// Says where a request comes from; browsers send it, and no page can change it.
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// Says by which scheme a proxy was asked.
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Bytes of a path with its query.
const URL_MAX: usize = 4 * 1024;
/// How long somebody waits who has shown a token that nobody has.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);
/// Requests of one caller that change something: so many at once,
const WRITES_BURST: f64 = 40.0;
/// and so many a second.
const WRITES_A_SECOND: f64 = 20.0;

/// The rule.
#[derive(Debug)]
pub struct Guard {
    callers: Callers,
    /// Where people find the pages, if that is said.
    origin: Option<String>,
    /// What each caller may still write, and as of when. Callers are those of the configuration, so they are few.
    writes: Mutex<HashMap<Arc<str>, (f64, Instant)>>,
    audit: Audit,
}

impl Guard {
    /// Lets in `callers`. `origin` is where people find the pages, if a proxy in between does not say so.
    pub fn new(callers: Callers, origin: Option<&str>) -> Self {
        let origin = origin.map(|origin| origin.trim_end_matches('/').to_owned());
        Self { callers, origin, writes: Mutex::default(), audit: Audit::default() }
    }

    /// Who may call.
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Takes one write of what a caller has left.
    fn may_write(&self, caller: &Caller, now: Instant) -> bool {
        // Nobody is told from anybody else there.
        if caller.how == How::Loopback {
            return true;
        }
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = writes.entry(Arc::clone(&caller.name)).or_insert((WRITES_BURST, now));
        *left = (*left + now.duration_since(*at).as_secs_f64() * WRITES_A_SECOND).min(WRITES_BURST);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Refuses strangers, other sites' pages, and what a caller's role is not for.
pub async fn check(
    State((app, table)): State<(App, Arc<Table>)>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let guard = &app.guard;
    guard.audit.sum_up(Instant::now());
    let needs = table.needs(request.method(), matched.as_ref().map(MatchedPath::as_str));
    let is_https = scheme(request.headers()) == "https";
    let call = Call::of(&request);
    let asked = (request.method(), request.uri(), request.headers());
    let mut response = match admitted(guard, needs, asked).await {
        Ok(Admitted { caller, why }) => {
            if let Some(caller) = caller.clone() {
                request.extensions_mut().insert(caller);
            }
            let response = next.run(request).await;
            if why.is_some() {
                guard.audit.note(Kind::Unknown, &call, None, (response.status(), why));
            }
            if let Some(kind) = kind(needs, response.status()) {
                guard.audit.note(kind, &call, caller.as_ref(), (response.status(), None));
            }
            response
        }
        Err(Denied { problem, caller, why }) => {
            let why = why.unwrap_or(&problem.detail);
            guard.audit.note(Kind::Refused, &call, caller.as_ref(), (problem.status, Some(why)));
            refused(guard, problem, request.headers())
        }
    };
    protect(response.headers_mut(), is_https);
    response
}

/// What kind of call it was that was let in, if it is one that is told.
fn kind(needs: Option<Needs>, answer: StatusCode) -> Option<Kind> {
    match needs {
        Some(Needs::Role(Role::Operator | Role::Admin)) => Some(Kind::Asked),
        _ if matches!(answer, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Some(Kind::Refused),
        Some(Needs::Role(Role::Producer) | Needs::Pusher | Needs::Asker) => Some(Kind::Told),
        Some(Needs::Role(Role::Viewer) | Needs::Nobody | Needs::Anybody) | None => None,
    }
}

/// A call that is let in.
#[derive(Default)]
struct Admitted {
    /// Who makes it; nobody, where nobody has to say who they are.
    caller: Option<Caller>,
    /// Why what they say of who they are is not believed, where they are let in all the same.
    why: Option<&'static str>,
}

/// A call that is not let in.
struct Denied {
    problem: Problem,
    /// Who makes it, if that is known.
    caller: Option<Caller>,
    /// What whoever reads the log is told, and the caller is not.
    why: Option<&'static str>,
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self { problem, caller: None, why: None }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let why = if let Refusal::Unknown(why) = refusal { Some(why) } else { None };
        Self { problem: refusal.into(), caller: None, why }
    }
}

/// Whether a call is let in, and who makes it.
async fn admitted(
    guard: &Guard,
    needs: Option<Needs>,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
) -> Result<Admitted, Denied> {
    if uri.path_and_query().is_some_and(|path| path.as_str().len() > URL_MAX) {
        let why = format!("path and query have at most {URL_MAX} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "too-long", why).into());
    }
    let length = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_MAX as u64) {
        let why = format!("the body may have at most {BODY_MAX} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", why).into());
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::invalid("a request names one host").into());
    }
    if let Some(why) = foreign(guard, method, uri, headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "refused", why).into());
    }
    let caller = match needs {
        Some(Needs::Nobody) => return Ok(Admitted::default()),
        Some(Needs::Pusher) => guard.callers.pusher(headers).await,
        _ => guard.callers.caller(headers).await,
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => {
            if matches!(refusal, Refusal::Unknown(_)) && needs != Some(Needs::Pusher) {
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
            let denied = Denied::from(refusal);
            // A platform may show a token of its own that we know nothing of.
            return if needs == Some(Needs::Anybody) {
                Ok(Admitted { caller: None, why: denied.why })
            } else {
                Err(denied)
            };
        }
    };
    let problem = if needs.is_some_and(|needs| !needs.are_met_by(caller.role)) {
        Refusal::Role(caller.role).into()
    } else if matches!(needs, Some(Needs::Role(Role::Operator | Role::Admin)))
        && !guard.may_write(&caller, Instant::now())
    {
        let why = format!("more than {WRITES_A_SECOND} requests a second; ask again in a moment");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", why)
    } else {
        return Ok(Admitted { caller: Some(caller), why: None });
    };
    Err(Denied { problem, caller: Some(caller), why: None })
}

fn refused(guard: &Guard, problem: Problem, headers: &HeaderMap) -> Response {
    let code = problem.status;
    let mut response = problem.into_response();
    // Whoever is not let in keeps no connection, nor sends us what nobody reads.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    if code == StatusCode::UNAUTHORIZED {
        // A browser asks its user for a name, which becomes the actor, and for a token as the password.
        let is_page = text(headers, header::ACCEPT.as_str()).is_some_and(|kinds| kinds.contains("text/html"));
        let types = is_page && guard.callers.has_tokens();
        let way = if types { "Basic realm=\"tipoff\", charset=\"UTF-8\"" } else { "Bearer" };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(way));
    }
    if code == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Headers of every answer. Pages say more of what they may do, and whatever says so itself may be kept.
fn protect(headers: &mut HeaderMap, is_https: bool) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

/// Why a call is refused that a page of another site has sent.
fn foreign(guard: &Guard, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    const WHY: &str = "requests from other sites' pages are refused";
    // A page in the operator's browser can reach loopback; what it sends says whose page it is, what a program sends does not.
    if headers.contains_key(header::ORIGIN) && !guard.is_own_origin(uri, headers) {
        return Some(WHY);
    }
    let site = text(headers, SEC_FETCH_SITE);
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        // A link to a page may stand anywhere; a picture, a script or a form of another site may not.
        let is_link = text(headers, "sec-fetch-mode") == Some("navigate") && method.is_safe();
        if !(is_link && super::pages::is_page(uri.path())) {
            return Some(WHY);
        }
    }
    // A name that resolves to loopback is how a page gets around its origin.
    if guard.callers.is_open() && !asked(uri, headers).all(is_local) {
        return Some("without a token only loopback names are answered");
    }
    None
}

/// The hosts that a request says it asks: in its first line, and in a header. A sound one says the same in both.
fn asked<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> impl Iterator<Item = &'r str> {
    [uri.authority().map(Authority::as_str), text(headers, header::HOST.as_str())].into_iter().flatten()
}

/// By which scheme a browser has asked: as the proxy in front says, or as we speak ourselves.
fn scheme(headers: &HeaderMap) -> &str {
    let told = text(headers, FORWARDED_PROTO).and_then(|told| told.split(',').next()).map(str::trim);
    told.filter(|scheme| !scheme.is_empty()).unwrap_or("http")
}

impl Guard {
    /// Whether a form was sent by one of our own pages: the browser must say so.
    pub fn is_own_form(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        text(headers, SEC_FETCH_SITE) == Some("same-origin") || self.is_own_origin(uri, headers)
    }

    /// Whether the origin is that of the host that was asked, scheme and port included.
    fn is_own_origin(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(origin) = text(headers, header::ORIGIN.as_str()) else { return false };
        let mut hosts = asked(uri, headers).peekable();
        match &self.origin {
            Some(own) => origin == own,
            None => hosts.peek().is_some() && hosts.all(|host| origin == format!("{}://{host}", scheme(headers))),
        }
    }
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

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost:8085"));
        for (name, value) in given {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn other_sites_pages_can_link_to_ours_and_do_nothing_else() {
        let guard = Guard::new(Callers::local(), None);
        let passes = |method: Method, path: &'static str, given: &[(&'static str, &'static str)]| {
            foreign(&guard, &method, &Uri::from_static(path), &headers(given)).is_none()
        };
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert!(passes(Method::GET, "/ui/nba", &link));
        assert!(!passes(Method::GET, "/game-coverage-alert", &link));
        assert!(!passes(Method::POST, "/ui/nba/2026-01-22/ask", &link));
        assert!(!passes(Method::GET, "/ui/nba", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(passes(Method::POST, "/push", &[("origin", "http://localhost:8085")]));
        for origin in [
            "https://localhost:8085",
            "http://localhost:8086",
            "http://localhost",
            "https://evil.example",
            "null",
            "http://localhost:8085.evil.example",
        ] {
            assert!(!passes(Method::POST, "/push", &[("origin", origin)]), "{origin}");
        }
        assert!(passes(Method::GET, "http://localhost:8085/v1/pipelines", &[]));
        assert!(!passes(Method::GET, "http://evil.example/v1/pipelines", &[]), "the whole address in the first line");
        let page = Uri::from_static("/ui/nba");
        assert!(guard.is_own_form(&page, &headers(&[("sec-fetch-site", "same-origin")])));
        assert!(!guard.is_own_form(&page, &headers(&[])));
        // A first line with a whole address counts as the header does, and neither against the other.
        let origin = [("origin", "http://localhost:8085")];
        assert!(guard.is_own_form(&Uri::from_static("http://localhost:8085/ui/nba"), &headers(&origin)));
        assert!(!guard.is_own_form(&Uri::from_static("http://localhost:8086/ui/nba"), &headers(&origin)));
        assert!(!passes(Method::POST, "http://127.0.0.1:8086/push", &origin));
    }

    #[test]
    fn behind_a_proxy_the_origin_is_what_people_see() {
        let own = |guard: &Guard, given: &[(&'static str, &'static str)]| {
            guard.is_own_origin(&Uri::from_static("/ui/nba"), &headers(given))
        };
        let guard = Guard::new(Callers::local(), None);
        let (http, https) = (("origin", "http://localhost:8085"), ("origin", "https://localhost:8085"));
        assert!(own(&guard, &[https, ("x-forwarded-proto", "https")]));
        assert!(own(&guard, &[https, ("x-forwarded-proto", "https, http")]));
        assert!(!own(&guard, &[http, ("x-forwarded-proto", "https")]), "a page that came in the clear");
        let named = Guard::new(Callers::local(), Some("https://tipoff.example/"));
        assert!(own(&named, &[("origin", "https://tipoff.example")]));
        assert!(!own(&named, &[http]));
    }

    #[test]
    fn a_caller_writes_so_much_and_others_are_not_held_up() {
        let guard = Guard::new(Callers::local(), None);
        let caller = |name: &str, how| Caller::new(name, Role::Operator, how);
        let (ann, bob, begin) = (caller("ann", How::Token), caller("bob", How::Google), Instant::now());
        let taken = |caller: &Caller, at: Instant| (0..100).filter(|_| guard.may_write(caller, at)).count();
        assert_eq!(taken(&ann, begin), 40);
        assert_eq!(taken(&bob, begin), 40);
        assert_eq!(taken(&ann, begin + Duration::from_millis(500)), 10);
        assert_eq!(taken(&ann, begin + Duration::from_secs(60)), 40);
        assert_eq!(taken(&caller("local", How::Loopback), begin), 100);
    }
}
