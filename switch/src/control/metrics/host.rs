//! Whom a request is for: this host by an address or by its own name, and no other. A page of some
//! other site, opened on this host, could else have its name mean this host's address, and read all
//! that is served here (DNS rebinding).

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::{Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;

use crate::api::problem::Code;
use crate::control::answer::Refused;
use crate::control::query::shown;

/// Lets a request pass that is for this host.
pub(super) async fn check(request: Request, next: Next) -> Response<Body> {
    match wrong(&request) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

fn wrong(request: &Request) -> Option<Refused> {
    let refused = |status, code, why: String| Some(Refused::new(status, code, why).at("Host"));
    let mut headers = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (headers.next(), headers.next()) else {
        let why = "a request has one header `Host`, as HTTP/1.1 says".to_owned();
        return refused(StatusCode::BAD_REQUEST, Code::Malformed, why);
    };
    // A target with a host of its own is meant for that one.
    let of_target = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let hosts = [host.to_str().ok(), of_target.or(host.to_str().ok())];
    let is_known = |host: &Option<&str>| {
        host.and_then(name_of)
            .is_some_and(|name| is_literal(name) || OwnNames::read().has(name))
    };
    if hosts.iter().all(is_known) {
        return None;
    }
    let shown = shown(&String::from_utf8_lossy(host.as_bytes()));
    let why = format!(
        "the request is for {shown}, which this host is not called: use its address in figures, \
        `localhost`, or its own name as `hostname` or /etc/hosts has it"
    );
    refused(StatusCode::FORBIDDEN, Code::WrongHost, why)
}

/// The name or address in front of a port, if there is one.
fn name_of(host: &str) -> Option<&str> {
    let is_port = |text: &str| {
        text.is_empty()
            || text
                .strip_prefix(':')
                .is_some_and(|port| port.parse::<u16>().is_ok())
    };
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return (is_port(port) && address.parse::<Ipv6Addr>().is_ok()).then_some(address);
    }
    let end = host.find(':').unwrap_or(host.len());
    let (name, port) = host.split_at(end);
    is_port(port).then_some(name.strip_suffix('.').unwrap_or(name))
}

/// What no name server can be asked for.
fn is_literal(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// The names of this host.
struct OwnNames {
    /// As the kernel has it.
    name: String,
    /// Of `/etc/hosts`.
    hosts: String,
}

impl OwnNames {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            name: read("/proc/sys/kernel/hostname").trim().to_owned(),
            hosts: read("/etc/hosts"),
        }
    }

    fn has(&self, name: &str) -> bool {
        let is = |known: &str| !known.is_empty() && known.eq_ignore_ascii_case(name);
        let short = self.name.split('.').next().unwrap_or_default();
        if is(&self.name) || is(short) {
            return true;
        }
        // A line has an address, and all names of whom it belongs to.
        self.hosts.lines().any(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let names = || line.split_whitespace().skip(1);
            let is_own = |known: &str| {
                !self.name.is_empty()
                    && (known.eq_ignore_ascii_case(&self.name) || known.eq_ignore_ascii_case(short))
            };
            names().any(is_own) && names().any(is)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_no_part_of_the_name() {
        for (host, name) in [
            ("localhost", Some("localhost")),
            ("localhost:9477", Some("localhost")),
            ("127.0.0.1:9477", Some("127.0.0.1")),
            ("[::1]:9477", Some("::1")),
            ("[::1]", Some("::1")),
            ("node.example.:80", Some("node.example")),
            ("::1", None),
            ("[::1", None),
            ("[evil.example]:80", None),
            ("localhost:x", None),
            ("localhost:99999", None),
            ("localhost:80:80", None),
            ("user@localhost:80", Some("user@localhost")),
        ] {
            assert_eq!(name_of(host), name, "{host}");
        }
    }

    #[test]
    fn names_are_those_of_this_host_alone() {
        let names = OwnNames {
            name: "node7".to_owned(),
            hosts: "127.0.0.1 localhost\n127.0.1.1 node7.example.com node7 # the tap.example\n\
                10.0.0.9 other.example node70\n"
                .to_owned(),
        };
        for name in ["node7", "NODE7", "node7.example.com", "Node7.Example.Com"] {
            assert!(names.has(name), "{name}");
        }
        for name in [
            "",
            "node",
            "node70",
            "other.example",
            "tap.example",
            "node7.evil.example",
            "example.com",
            "127.0.1.1",
        ] {
            assert!(!names.has(name), "{name}");
        }
        let nameless = OwnNames {
            name: String::new(),
            hosts: "10.0.0.9 other.example\n".to_owned(),
        };
        assert!(!nameless.has("") && !nameless.has("other.example"));
    }
}
