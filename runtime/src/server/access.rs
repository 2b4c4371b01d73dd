//! Authentication: API keys, the page's session, and which requests belong to the same caller.
//!
//! Other users of the machine can reach its loopback address, too. So the system prompt is only shown to the page opened
//! with the link in the terminal. The link holds a secret that the page exchanges for a session; the link passed to the
//! browser holds another secret, which works once, since other users can read process arguments. With API keys,
//! everything but the page's files and `/health` needs one.
//!
//! Secrets are stored as hashes and compared in constant time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::http::{Head, Peer};

/// Sessions kept at once; the oldest is dropped first.
const MAX_SESSIONS: usize = 64;
/// The caller shared by all unauthenticated requests, unless connections are isolated.
const ANYONE: Caller = Caller(0);

type Hash = [u8; 32];

/// Identifies a caller, for state that callers must not share: an opaque number, the same for all requests with one key
/// or from one page, and for all unauthenticated requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub u64);

/// The identity of a request's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The same for all of one sender's requests.
    pub caller: Caller,
    /// Authenticated by an API key or by the page's session.
    pub known: bool,
}

impl Who {
    /// An unauthenticated sender.
    pub(super) const STRANGER: Self = Self { caller: ANYONE, known: false };
}

/// The keys, the links and the sessions of one server.
pub struct Access {
    keys: Vec<Hash>,
    isolate: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Hashes of links' secrets, and whether each works only once.
    links: Vec<(Hash, bool)>,
    sessions: VecDeque<Hash>,
}

impl Access {
    /// Without keys, anyone who reaches the server may use the API. `isolate`: each unauthenticated connection is a
    /// caller of its own.
    pub fn new(keys: &[String], isolate: bool) -> Self {
        Self { keys: keys.iter().map(|key| hash(key)).collect(), isolate, state: Mutex::default() }
    }

    /// Whether requests need a key.
    pub fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Callers that are the same after a restart: those with keys, or all who share one number. A page's session has a secret of
    /// this process, and connections are counted anew.
    pub fn lasting_callers(&self) -> Vec<u64> {
        let anyone = (!self.needs_key() && !self.isolate).then_some(ANYONE.0);
        self.keys.iter().map(|key| caller(key).0).chain(anyone).collect()
    }

    /// A secret for a link to the page. One that works only `once` may leak after its use.
    pub fn link(&self, once: bool) -> String {
        let secret = secret();
        self.state().links.push((hash(&secret), once));
        secret
    }

    /// Exchanges a link's secret for a session; `None` if the secret is unknown or used up.
    pub fn open_session(&self, link: &str) -> Option<String> {
        let mut state = self.state();
        let shown = hash(link);
        let found =
            state.links.iter().fold(None, |found, &(link, once)| if same(&link, &shown) { Some(once) } else { found });
        if found? {
            state.links.retain(|(link, _)| !same(link, &shown));
        }
        let session = secret();
        if state.sessions.len() == MAX_SESSIONS {
            state.sessions.pop_front();
        }
        state.sessions.push_back(hash(&session));
        Some(session)
    }

    /// Identifies the sender; `None` if a key is required and the request has no valid one.
    pub fn identify(&self, head: &Head, peer: &Peer) -> Option<Who> {
        if let Some(shown) = presented(head).map(hash) {
            let sessions = self.state();
            // Compare with every key, so that the time does not reveal which one matched.
            let known = self.keys.iter().chain(&sessions.sessions).fold(false, |known, key| known | same(key, &shown));
            if known {
                return Some(Who { caller: caller(&shown), known });
            }
        }
        let stranger = if self.isolate { Caller(peer.connection.wrapping_add(1)) } else { ANYONE };
        (!self.needs_key()).then_some(Who { caller: stranger, known: false })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's key: `Authorization: Bearer KEY`, or `x-api-key: KEY` as Anthropic's clients send it.
fn presented(head: &Head) -> Option<&str> {
    let bearer = head.header("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim_start_matches(' '))
    });
    bearer.or_else(|| head.header("x-api-key"))
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Constant-time comparison.
fn same(left: &Hash, right: &Hash) -> bool {
    let differing = left.iter().zip(right).fold(0, |differing, (left, right)| differing | (left ^ right));
    std::hint::black_box(differing) == 0
}

/// Hashed again, so that the number reveals nothing about the stored hash. Unauthenticated callers have the top bit clear.
fn caller(hash: &Hash) -> Caller {
    let digest = Sha256::digest([b"caller".as_slice(), hash].concat());
    Caller(digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte)) | 1 << 63)
}

/// 128 bits of the system's randomness.
///
/// # Panics
/// If the system has no randomness: no secret could be trusted.
pub(crate) fn secret() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::parse_head;
    use crate::server::limits::Limits;

    const PEER: Peer = Peer { connection: 7, address: None };

    fn head(lines: &str) -> Head {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        parse_head(text.as_bytes(), &Limits::default()).unwrap().unwrap().0
    }

    fn access(keys: &[&str], isolate: bool) -> Access {
        Access::new(&keys.iter().map(|key| (*key).to_string()).collect::<Vec<_>>(), isolate)
    }

    #[test]
    fn a_valid_key_is_required_and_identifies_its_caller() {
        let access = access(&["first", "second"], false);
        let first = access.identify(&head("Authorization: Bearer first\r\n"), &PEER).unwrap();
        let again = access.identify(&head("x-api-key: first\r\n"), &Peer { connection: 8, ..PEER }).unwrap();
        let second = access.identify(&head("authorization: bearer second\r\n"), &PEER).unwrap();
        assert!(first.known && first == again && first.caller != second.caller);
        for lines in ["", "Authorization: Bearer firs\r\n", "Authorization: Basic first\r\n", "x-api-key: \r\n"] {
            assert_eq!(access.identify(&head(lines), &PEER), None, "{lines}");
        }
    }

    #[test]
    fn without_keys_all_share_one_caller_unless_isolated() {
        let other = Peer { connection: 8, ..PEER };
        let open = access(&[], false);
        // Many clients always send some key.
        let who = open.identify(&head("Authorization: Bearer none\r\n"), &PEER).unwrap();
        assert!(!who.known && Some(who) == open.identify(&head(""), &other));
        let apart = access(&[], true);
        assert_ne!(apart.identify(&head(""), &PEER), apart.identify(&head(""), &other));
        assert_eq!(apart.identify(&head(""), &PEER), apart.identify(&head(""), &PEER));
    }

    #[test]
    fn a_link_opens_sessions_and_the_browsers_link_only_one() {
        for keys in [&["key"][..], &[]] {
            let access = access(keys, false);
            let (printed, opened) = (access.link(false), access.link(true));
            assert!(printed != opened && printed.len() == 32);
            let sessions = [&printed, &printed, &opened].map(|link| access.open_session(link).unwrap());
            assert_eq!(access.open_session(&opened), None);
            assert_eq!(access.open_session("guessed"), None);
            for session in &sessions {
                assert!(access.identify(&head(&format!("Authorization: Bearer {session}\r\n")), &PEER).unwrap().known);
            }
            // The link's secret is not a key.
            let who = access.identify(&head(&format!("Authorization: Bearer {printed}\r\n")), &PEER);
            assert!(who.is_none_or(|who| !who.known));
            for _ in 0..MAX_SESSIONS {
                access.open_session(&printed).unwrap();
            }
            let who = access.identify(&head(&format!("Authorization: Bearer {}\r\n", sessions[0])), &PEER);
            assert!(who.is_none_or(|who| !who.known), "the oldest has ended");
        }
    }
}
