//! Which web pages may use this server.
//!
//! A browser lets any page send requests to 127.0.0.1. Two checks keep foreign pages from driving a model that runs on
//! the user's own machine:
//! - `Origin`: a cross-origin request carries the page's origin. It is refused (403) unless that is the server's own or
//!   was allowed with `--cors ORIGIN`. Programs such as curl send none and pass.
//! - `Host`: DNS rebinding makes a foreign page look same-origin, but its requests still name the foreign host. Only
//!   `localhost`, IP addresses (loopback ones only, if bound to loopback) and the names given with `--allow-host NAME`
//!   are accepted. Over a Unix socket, which browsers cannot reach, the name is not checked.

use std::net::{IpAddr, SocketAddr};

use super::http::{Head, Method, Refusal, Response, split_authority};
use super::openai::shown;

/// The checks for one server.
#[derive(Clone, Debug)]
pub struct Guard {
    /// `None`: a Unix socket.
    loopback: Option<bool>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Headers that let an allowed foreign page read the response; empty for all other requests.
pub type CorsHeaders = Vec<(&'static str, String)>;

impl Guard {
    /// A guard for a server at `address`; `None` is a Unix socket. `hosts` are additional names accepted in `Host`;
    /// `origins` are allowed origins, `*` allows all.
    pub fn new(address: Option<SocketAddr>, hosts: &[String], origins: &[String]) -> Self {
        let lower =
            |items: &[String]| items.iter().map(|item| item.trim_end_matches('/').to_ascii_lowercase()).collect();
        let loopback = address.map(|address| address.ip().is_loopback());
        Self { loopback, hosts: lower(hosts), origins: lower(origins) }
    }

    /// Admits or refuses a request.
    ///
    /// # Errors
    /// 403 with a message that names the flag that would allow it.
    pub fn admit(&self, head: &Head) -> Result<CorsHeaders, Refusal> {
        if let Some(host) = &head.host
            && !self.host_is_ours(host)
        {
            let message = format!(
                "requests for the host `{}` are refused (it may be a web page's DNS rebinding); start with --allow-host to accept them",
                shown(host)
            );
            return Err(Refusal::new(403, message));
        }
        let Some(origin) = head.header("origin") else {
            // Browsers that omit Origin on a form submission still send Sec-Fetch-Site.
            return match head.header("sec-fetch-site") {
                Some("cross-site" | "same-site") if matches!(head.method, Method::Post | Method::Delete) => {
                    Err(self.foreign("another site"))
                }
                _ => Ok(Vec::new()),
            };
        };
        if self.origin_is_allowed(origin) {
            return Ok(vec![
                ("Access-Control-Allow-Origin", origin.to_string()),
                ("Access-Control-Expose-Headers", "*".to_string()),
                ("Vary", "Origin".to_string()),
            ]);
        }
        let own = head.host.as_deref().is_some_and(|host| {
            ["http://", "https://"]
                .iter()
                .any(|scheme| origin.strip_prefix(scheme).is_some_and(|rest| rest.eq_ignore_ascii_case(host)))
        });
        if own { Ok(Vec::new()) } else { Err(self.foreign(&format!("`{}`", shown(origin)))) }
    }

    /// The response to OPTIONS; only an allowed origin gets CORS headers.
    pub fn preflight(&self, head: &Head, allow: &str) -> Response {
        let response = Response::empty(204).with("Allow", allow);
        let allowed = head.header("origin").is_some_and(|origin| self.origin_is_allowed(origin));
        if !allowed || head.header("access-control-request-method").is_none() {
            return response;
        }
        let headers = head.header("access-control-request-headers").unwrap_or("content-type, authorization");
        response
            .with("Access-Control-Allow-Methods", allow)
            .with("Access-Control-Allow-Headers", headers)
            .with("Access-Control-Allow-Private-Network", "true")
            .with("Access-Control-Max-Age", "600")
    }

    fn foreign(&self, from: &str) -> Refusal {
        Refusal::new(
            403,
            format!("requests from web pages of {from} are refused; start with --cors ORIGIN to allow them"),
        )
    }

    fn origin_is_allowed(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }

    fn host_is_ours(&self, host: &str) -> bool {
        let Some(loopback) = self.loopback else { return true };
        let Some((name, _)) = split_authority(host) else { return false };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if self.hosts.contains(&name) {
            return true;
        }
        match name.parse::<IpAddr>() {
            // DNS rebinding needs a name; an attacker cannot make a page's host be an address of ours.
            Ok(ip) => !loopback || ip.is_loopback(),
            // Browsers resolve these without DNS.
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::parse_head;
    use crate::server::limits::Limits;

    fn head(method: &str, lines: &str) -> Head {
        let text = format!("{method} / HTTP/1.1\r\n{lines}\r\n\r\n");
        parse_head(text.as_bytes(), &Limits::default()).unwrap().unwrap().0
    }

    fn guard(address: &str, hosts: &[&str], origins: &[&str]) -> Guard {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_string()).collect::<Vec<_>>();
        Guard::new(Some(address.parse().unwrap()), &owned(hosts), &owned(origins))
    }

    #[test]
    fn loopback_accepts_only_loopback_hosts() {
        let guard = guard("127.0.0.1:8080", &["chat.example.com"], &[]);
        let hosts = [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("localhost.:8080", true),
            ("app.localhost:9", true),
            ("127.0.0.1:8080", true),
            ("127.1.2.3", true),
            ("[::1]:8080", true),
            ("chat.example.com", true),
            ("evil.example.com:8080", false),
            ("localhost.example.com", false),
            ("10.0.0.1:8080", false),
            ("", false),
        ];
        for (host, ours) in hosts {
            assert_eq!(guard.admit(&head("GET", &format!("Host: {host}"))).is_ok(), ours, "{host}");
        }
    }

    #[test]
    fn other_addresses_accept_ip_addresses_and_allowed_names() {
        let guard = guard("0.0.0.0:8080", &["box"], &[]);
        for (host, ours) in [
            ("BOX:8080", true),
            ("10.1.2.3:8080", true),
            ("[fe80::1]:8080", true),
            ("localhost:8080", true),
            ("evil.example.com", false),
            ("", false),
        ] {
            assert_eq!(guard.admit(&head("GET", &format!("Host: {host}"))).is_ok(), ours, "{host}");
        }
    }

    #[test]
    fn over_a_unix_socket_only_the_origin_is_checked() {
        let guard = Guard::new(None, &[], &[]);
        assert!(guard.admit(&head("GET", "Host: anything")).is_ok());
        assert!(guard.admit(&head("GET", "Host: anything\r\nOrigin: http://evil.example")).is_err());
    }

    #[test]
    fn foreign_origins_are_refused_and_own_ones_pass() {
        let guard = guard("127.0.0.1:8080", &[], &[]);
        let cases = [
            ("Host: localhost:8080\r\nOrigin: http://localhost:8080", true),
            ("Host: localhost:8080\r\nOrigin: http://localhost:3000", false),
            ("Host: localhost:8080\r\nOrigin: https://evil.example.com", false),
            ("Host: localhost:8080\r\nOrigin: null", false),
            ("Host: localhost:8080\r\nSec-Fetch-Site: cross-site", false),
            ("Host: localhost:8080\r\nSec-Fetch-Site: same-origin", true),
            ("Host: localhost:8080", true),
        ];
        for (lines, passes) in cases {
            let outcome = guard.admit(&head("POST", lines));
            assert_eq!(outcome.is_ok(), passes, "{lines}");
            if let Err(refusal) = outcome {
                assert!(refusal.status == 403 && refusal.message.contains("--cors"), "{}", refusal.message);
            }
        }
    }

    #[test]
    fn allowed_origins_get_cors_headers() {
        let guard = guard("127.0.0.1:8080", &[], &["http://localhost:3000/"]);
        let head = head(
            "OPTIONS",
            "Host: localhost:8080\r\nOrigin: http://localhost:3000\r\nAccess-Control-Request-Method: POST",
        );
        let headers = guard.admit(&head).unwrap();
        assert!(headers.contains(&("Access-Control-Allow-Origin", "http://localhost:3000".to_string())));
        let preflight = guard.preflight(&head, "POST, OPTIONS");
        assert_eq!(preflight.status, 204);
        assert!(preflight.headers.iter().any(|(name, _)| *name == "Access-Control-Allow-Methods"));
    }
}
