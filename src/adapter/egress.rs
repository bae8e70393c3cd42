//! Where we may connect to: to what is declared, and never to where a machine's own secrets are.
//!
//! A declared name is resolved anew for every connection, by whoever owns its zone; so each address is looked at when the
//! connection is made, and the connection goes to that very address. A URL that names an address is looked at when it is
//! declared. Private networks may be declared: services and receivers of a deployment live there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Name, Resolve, Resolving};

/// Why a place is not connected to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It names no host.
    #[error("it names no host")]
    Nowhere,
    /// It is where a machine finds its own credentials.
    #[error("{0} is where a machine asks for its own credentials: nothing is sent there")]
    Metadata(String),
    /// It is nobody's address, or everybody's.
    #[error("{0} is no address of a service")]
    Address(IpAddr),
    /// A name of somewhere else turns out to be this machine's.
    #[error("{0} is said to be this machine; write 127.0.0.1 if that is meant")]
    Loopback(String),
    /// It resolves to nothing.
    #[error("{0} has no address")]
    Unknown(String),
}

/// Whether a declared URL may be connected to at all. What its name resolves to is looked at when it is.
///
/// # Errors
/// Why not.
pub fn declared(url: &Url) -> Result<(), Refused> {
    let host = url.host_str().ok_or(Refused::Nowhere)?;
    match address(host) {
        Some(address) => reachable(address, true, host),
        None => named(host),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn bare(host: &str) -> &str {
    host.trim_end_matches('.')
}

fn named(host: &str) -> Result<(), Refused> {
    let name = bare(host);
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if is("metadata.google.internal") || is("metadata") || is("metadata.goog") {
        return Err(Refused::Metadata(name.to_owned()));
    }
    Ok(())
}

/// Whether an address may be connected to. `local` says that this machine was meant.
fn reachable(address: IpAddr, local: bool, host: &str) -> Result<(), Refused> {
    let inner = match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let is_metadata = match inner {
        // All of link-local: nearly every cloud has its metadata there.
        IpAddr::V4(v4) => v4.is_link_local() || v4 == METADATA_V4,
        IpAddr::V6(v6) => v6.is_unicast_link_local() || METADATA_V6.contains(&v6),
    };
    if is_metadata {
        return Err(Refused::Metadata(address.to_string()));
    }
    let is_nowhere = match inner {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    if is_nowhere {
        return Err(Refused::Address(address));
    }
    if inner.is_loopback() && !local {
        return Err(Refused::Loopback(host.to_owned()));
    }
    Ok(())
}

/// The metadata server of Alibaba's cloud, which is not link-local.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Metadata servers that are not link-local: Google's and Amazon's.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)];

/// The address of the old kind inside one of the new: mapped, compatible, translated, or tunnelled.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let low = || {
        let [.., a, b] = segments;
        Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))
    };
    // By the well-known prefix, and by those that networks choose.
    let is_translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || segments[..3] == [0x64, 0xff9b, 1];
    let of_6to4 = || {
        let [_, a, b, ..] = segments;
        Ipv4Addr::from((u32::from(a) << 16) | u32::from(b))
    };
    let is_6to4 = segments[0] == 0x2002;
    let is_compatible = segments[..6] == [0; 6] && segments[6] != 0;
    v6.to_ipv4_mapped().or_else(|| is_6to4.then(of_6to4)).or_else(|| (is_translated || is_compatible).then(low))
}

/// The addresses of a host that may be connected to.
///
/// # Errors
/// If there are none; where some may be and others may not, nothing is said of the others.
pub async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_matches(['[', ']']);
    let denied = |refused: Refused| io::Error::new(io::ErrorKind::PermissionDenied, refused);
    named(host).map_err(denied)?;
    let found = tokio::net::lookup_host((host, port)).await?.collect::<Vec<_>>();
    permitted(host, &found).map_err(denied)
}

fn permitted(host: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, Refused> {
    let local = address(host).is_some() || bare(host).eq_ignore_ascii_case("localhost");
    let mut refused = Refused::Unknown(host.to_owned());
    let mut good = Vec::new();
    for socket in found {
        match reachable(socket.ip(), local, host) {
            Ok(()) => good.push(*socket),
            Err(why) => refused = why,
        }
    }
    if good.is_empty() { Err(refused) } else { Ok(good) }
}

/// Resolves names for a client, and leaves out what may not be connected to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// The same, to be shared.
#[must_use]
pub fn resolver() -> Arc<Resolver> {
    Arc::new(Resolver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(url: &str) -> String {
        let url = url.parse::<Url>().unwrap();
        declared(&url).map_or_else(|refused| refused.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn no_way_of_writing_it_leads_to_where_credentials_are() {
        for url in [
            "http://169.254.169.254/computeMetadata/v1/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[64:ff9b:1::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://100.100.100.200/",
            "http://[::ffff:100.100.100.200]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://[fd20:ce::254]/",
            "http://metadata.google.internal/",
            "http://METADATA.google.internal./",
            "http://metadata/",
            "http://ann@169.254.169.254/",
            "http://example.org@169.254.169.254/",
        ] {
            assert!(said(url).contains("its own credentials"), "{url}: {}", said(url));
        }
        for url in ["http://0/", "http://0.0.0.0/", "http://[::]/", "http://255.255.255.255/", "http://224.0.0.1/"] {
            assert!(said(url).contains("no address of a service"), "{url}: {}", said(url));
        }
        for url in [
            "https://hooks.example.org/",
            "http://127.0.0.1:9004/",
            "http://localhost:9004/",
            "http://[::1]:9004/",
            "http://10.0.0.7/",
            "https://metadata.example.org/",
        ] {
            assert_eq!(said(url), "good", "{url}");
        }
    }

    #[test]
    fn what_a_name_turns_out_to_be_is_looked_at_every_time() {
        let socket = |address: &str| SocketAddr::new(address.parse().unwrap(), 443);
        let (public, metadata, own) = (socket("192.0.2.7"), socket("169.254.169.254"), socket("127.0.0.1"));
        let of = |found: &[SocketAddr]| permitted("hooks.example.org", found);
        assert_eq!(of(&[public]), Ok(vec![public]));
        // The zone's owner has changed his mind.
        assert_eq!(of(&[metadata]), Err(Refused::Metadata("169.254.169.254".to_owned())));
        assert_eq!(of(&[own]), Err(Refused::Loopback("hooks.example.org".to_owned())));
        assert_eq!(of(&[socket("::ffff:127.0.0.1")]), Err(Refused::Loopback("hooks.example.org".to_owned())));
        assert_eq!(of(&[metadata, public]), Ok(vec![public]), "only what may be connected to is");
        assert_eq!(of(&[]), Err(Refused::Unknown("hooks.example.org".to_owned())));
        assert_eq!(permitted("localhost", &[own]), Ok(vec![own]));
        assert!(permitted("localhost.evil.example", &[own]).is_err());
    }

    #[tokio::test]
    async fn a_client_of_ours_connects_by_the_same_rule() {
        let client = crate::adapter::call::client().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = client.get(format!("http://metadata.google.internal:{port}/")).send().await.unwrap_err();
        let said = crate::adapter::call::chain(&error);
        assert!(said.contains("its own credentials"), "{said}");
        let answer = tokio::spawn(async move { listener.accept().await.is_ok() });
        let call = client.get(format!("http://localhost:{port}/")).timeout(std::time::Duration::from_secs(2));
        let _ = call.send().await;
        assert!(answer.await.unwrap(), "localhost is not reached");
    }
}
