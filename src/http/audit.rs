//! Who has called, for whoever reads the log under `tipoff::audit`: what was asked for, each on its line; what was refused, and
//! what producers tell us, so that it is known who, from where, since when and how often, and no flood of calls becomes one of
//! lines. Of a call its method, its path and its answer are told, and nothing of what it carries.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri};

use super::caller::Caller;
use super::server::Peer;
use crate::desk::words::clean;

/// Under what the lines are found in the log.
const TARGET: &str = "tipoff::audit";
/// For so long the same calls of the same caller are counted together.
const SPAN: Duration = Duration::from_secs(600);
/// Addresses of one caller, or of strangers, that are told apart in that time.
const ADDRESSES_MAX: usize = 50;
/// Characters of a path.
const PATH_MAX: usize = 500;
/// Characters of what a proxy says of where a call comes from: the last, which are its own.
const FORWARDED_MAX: usize = 100;
/// Where a proxy says so.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// What kind of call it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Somebody asks for something.
    Asked,
    /// Somebody tells us something: a message, what is in the warehouse, that it is time to look.
    Told,
    /// Somebody shows a token that nobody has, and is answered as a stranger.
    Unknown,
    /// Somebody may not do that, or is nobody we know.
    Refused,
}

impl Kind {
    /// How many are told at once, each on its line, before they are counted.
    const fn told_at_once(self) -> u64 {
        match self {
            Self::Asked => u64::MAX,
            Self::Told | Self::Unknown => 1,
            Self::Refused => 20,
        }
    }
}

/// A call, as far as it is told.
#[derive(Debug)]
pub struct Call {
    method: Method,
    uri: Uri,
    peer: Option<IpAddr>,
    forwarded: Option<HeaderValue>,
}

impl Call {
    /// What is told of a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            peer: request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical()),
            forwarded: request.headers().get_all(FORWARDED_FOR).iter().next_back().cloned(),
        }
    }

    /// What the proxy in front says of where it comes from. A stranger writes the beginning of it, the proxy its end.
    fn forwarded(&self) -> Option<String> {
        let said = self.forwarded.as_ref()?.to_str().ok()?;
        let end = said.len().saturating_sub(FORWARDED_MAX);
        said.get(end..).map(|said| clean(said, FORWARDED_MAX))
    }
}

/// Calls of a kind by one caller, or by strangers, from one address, or from all that are not told apart.
type Key = (Kind, Option<Arc<str>>, Option<IpAddr>);

/// How often it was called.
#[derive(Clone, Copy, Default, Debug)]
struct Count {
    calls: u64,
    /// So many of those that are not told each failed.
    failed: u64,
}

#[derive(Default, Debug)]
struct Counts {
    of: BTreeMap<Key, Count>,
    /// Since when, once there is any.
    since: Option<Instant>,
}

/// What has been called lately.
#[derive(Default, Debug)]
pub struct Audit(Mutex<Counts>);

impl Audit {
    /// Tells of a call that was answered with `status`: now, or with others of its kind once the time is over for which they are
    /// counted. `why` is for whoever reads the log.
    pub fn note(&self, kind: Kind, call: &Call, caller: Option<&Caller>, (status, why): (StatusCode, Option<&str>)) {
        let at_once = kind == Kind::Asked || self.is_told_at_once(kind, call, caller, status, Instant::now());
        let (who, how) = (caller.map(|caller| &*caller.name), caller.map(|caller| caller.how.as_str()));
        let (peer, forwarded) = (call.peer.map(|peer| peer.to_string()), call.forwarded());
        let (method, path, status) = (&call.method, clean(call.uri.path(), PATH_MAX), status.as_u16());
        let what = match kind {
            Kind::Asked => "asked for",
            Kind::Told => "told",
            Kind::Unknown => "not believed",
            Kind::Refused => "refused",
        };
        if at_once {
            tracing::info!(target: TARGET, caller = who, how, peer, forwarded, %method, path, status, why, "{what}");
        } else {
            tracing::debug!(target: TARGET, caller = who, how, peer, forwarded, %method, path, status, why, "{what}");
        }
    }

    fn is_told_at_once(
        &self,
        kind: Kind,
        call: &Call,
        caller: Option<&Caller>,
        status: StatusCode,
        now: Instant,
    ) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.since.get_or_insert(now);
        let who = caller.map(|caller| Arc::clone(&caller.name));
        let mut key = (kind, who, call.peer);
        if !counts.of.contains_key(&key) {
            let all =
                (kind, key.1.clone(), None)..=(kind, key.1.clone(), Some(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))));
            if counts.of.range(all).count() >= ADDRESSES_MAX {
                key.2 = None;
            }
        }
        let count = counts.of.entry(key).or_default();
        count.calls += 1;
        let at_once = count.calls <= kind.told_at_once();
        if !at_once && !status.is_success() {
            count.failed += 1;
        }
        at_once
    }

    /// Tells how many calls were counted, if the time is over for which they are. Every call asks, those included of which
    /// nothing is told: a platform's probes come when nobody else does.
    pub fn sum_up(&self, now: Instant) {
        let counted = {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if counts.since.is_none_or(|since| now.duration_since(since) < SPAN) {
                return;
            }
            std::mem::take(&mut *counts)
        };
        counted.tell(now);
    }
}

/// What was counted until then is told: the service ends, or other declarations come into force.
impl Drop for Audit {
    fn drop(&mut self) {
        std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner)).tell(Instant::now());
    }
}

impl Counts {
    fn tell(self, now: Instant) {
        let seconds = self.since.map_or(0, |since| now.duration_since(since).as_secs());
        for ((kind, caller, peer), Count { calls, failed }) in self.of {
            let calls = calls.saturating_sub(kind.told_at_once());
            if calls == 0 {
                continue;
            }
            // Of strangers, or of one caller, from more addresses than are told apart.
            let peer = peer.map_or_else(|| "others".to_owned(), |peer| peer.to_string());
            let what = match kind {
                Kind::Refused => "refused as well",
                Kind::Unknown => "not believed as well",
                Kind::Told | Kind::Asked => "told as well",
            };
            tracing::info!(target: TARGET, caller = caller.as_deref(), peer, calls, failed, seconds, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Role;
    use crate::http::caller::How;

    fn call(address: u32) -> Call {
        let peer = Some(IpAddr::from(address.to_be_bytes()));
        Call { method: Method::GET, uri: Uri::from_static("/v1/stops"), peer, forwarded: None }
    }

    #[test]
    fn a_flood_is_some_lines_and_hides_no_known_caller() {
        let audit = Audit::default();
        let now = Instant::now();
        let told = |call: &Call, caller: Option<&Caller>, kind: Kind| {
            audit.is_told_at_once(kind, call, caller, StatusCode::UNAUTHORIZED, now)
        };
        let lines = (0..10_000).filter(|address| told(&call(*address), None, Kind::Refused)).count();
        assert_eq!(lines, ADDRESSES_MAX + 20, "each once, and some of all the others");
        let lines = (0..1_000).filter(|_| told(&call(0), None, Kind::Refused)).count();
        assert_eq!(lines, 19, "of one that has its own");
        let ann = Caller::new("ann", Role::Viewer, How::Token);
        assert!(told(&call(7), Some(&ann), Kind::Refused), "what somebody does whom we know");
        let lines = (0..1_000).filter(|_| told(&call(7), Some(&ann), Kind::Told)).count();
        assert_eq!(lines, 1);
        let kept = || audit.0.lock().unwrap().of.len();
        assert_eq!(kept(), ADDRESSES_MAX + 1 + 2);
        audit.sum_up(now + SPAN / 2);
        assert_eq!(kept(), ADDRESSES_MAX + 1 + 2, "it is not over");
        audit.sum_up(now + SPAN);
        assert_eq!(kept(), 0);
        assert!(told(&call(7), Some(&ann), Kind::Told), "it begins anew");
    }

    #[test]
    fn of_where_a_call_comes_from_the_end_is_the_proxys() {
        let request = |said: &str| {
            let request = Request::get("/v1/stops").header(FORWARDED_FOR, "10.0.0.1");
            Call::of(&request.header(FORWARDED_FOR, said).body(axum::body::Body::empty()).unwrap()).forwarded()
        };
        assert_eq!(request("1.2.3.4, 203.0.113.7").as_deref(), Some("1.2.3.4, 203.0.113.7"));
        let long = request(&format!("{}, 203.0.113.7", "x".repeat(10_000))).unwrap();
        assert!(long.ends_with("x, 203.0.113.7") && long.len() == FORWARDED_MAX, "{long}");
    }
}
