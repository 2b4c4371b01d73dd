//! Who can reach a server, for the first block and the warnings.

use std::net::SocketAddr;

use super::{Args, Failure};
use crate::cli::out::notice;
use crate::server::Server;

/// Who can reach a server, and whether they need a key.
pub(super) struct Reach {
    /// `None`: a Unix socket.
    pub(super) address: Option<SocketAddr>,
    keys: bool,
    no_auth: bool,
    /// Web pages of all origins may use it.
    all_pages: bool,
}

impl Reach {
    pub(super) fn of(server: &Server, args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            address: server.local_addr()?,
            keys: args.api_key_file.is_some(),
            no_auth: args.no_auth,
            all_pages: args.cors.iter().any(|origin| origin == "*"),
        })
    }

    pub(super) fn words(&self) -> String {
        let who = match self.address.map(|address| address.ip()) {
            None => "this user only",
            Some(ip) if ip.is_loopback() => "this machine only",
            Some(ip) if ip.is_unspecified() => "every network this machine is in",
            Some(_) => "the network of this address",
        };
        let with = if self.keys { ", with a key" } else { "" };
        format!("{who}{with}")
    }

    /// Warns if strangers can use the server without a key.
    pub(super) fn warn(&self) {
        for line in self.warnings() {
            notice!("satchel: {line}");
        }
    }

    fn warnings(&self) -> Vec<String> {
        let beyond = self.address.is_some_and(|address| !address.ip().is_loopback());
        let open = self.no_auth && beyond;
        let pages = self.all_pages && !self.keys;
        let network = || format!("anyone on {} can use this server, without a key (--no-auth)", self.words());
        let web = || "any web page that is opened here can use this server, without a key (--cors '*')".to_owned();
        open.then(network).into_iter().chain(pages.then(web)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_without_a_key_is_warned_of() {
        let reach = |address: &str, keys, no_auth, all_pages| {
            let address = Some(address.parse().unwrap());
            Reach { address, keys, no_auth, all_pages }.warnings()
        };
        assert_eq!(reach("127.0.0.1:1", false, true, false), [""; 0]);
        assert_eq!(reach("0.0.0.0:1", true, false, true), [""; 0]);
        assert!(reach("0.0.0.0:1", false, true, false)[0].contains("every network"));
        assert!(reach("10.0.0.1:1", false, true, true)[1].contains("--cors"));
    }
}
