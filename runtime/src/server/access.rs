//! Who asks: API keys, the page's session, and which requests are of one caller.
//!
//! Other users of a machine reach its loopback address, too. So what is only for whoever started the server (the system
//! prompt) is told to the page that was opened with the link in the terminal, and to nobody else. The link holds a secret
//! that the page exchanges for a session; the one that is handed to the browser holds another, which works once, since
//! other users can read the arguments of a process. With API keys, everything but the page's files and `/health` needs one.
//!
//! Secrets are kept and compared as hashes, in a time that does not depend on them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::http::{Head, Peer};

/// Pages that may be open at once; the oldest sessions end first.
const MAX_SESSIONS: usize = 64;
/// The caller of all requests that nothing tells apart.
const ANYONE: Caller = Caller(0);

type Hash = [u8; 32];

/// Whose request it is, for whatever must be kept apart between callers: an opaque number, the same for all requests of
/// one key or one page, and for all of this machine's programs where there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub u64);

/// What is known of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// What tells its requests from those of others.
    pub caller: Caller,
    /// It has shown a key, or is the page of whoever started the server.
    pub known: bool,
}

impl Who {
    /// Somebody of whom nothing is known.
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
    /// Secrets of links, and whether they work once.
    links: Vec<(Hash, bool)>,
    sessions: VecDeque<Hash>,
}

impl Access {
    /// With these keys; none: everybody who reaches the server may use the API. `isolate`: each connection without a key is
    /// a caller of its own.
    pub fn new(keys: &[String], isolate: bool) -> Self {
        Self { keys: keys.iter().map(|key| hash(key)).collect(), isolate, state: Mutex::default() }
    }

    /// Whether requests need a key.
    pub fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }

    /// A secret for a link to the page; where it works `once`, it may be seen by others afterwards.
    pub fn link(&self, once: bool) -> String {
        let secret = secret();
        self.state().links.push((hash(&secret), once));
        secret
    }

    /// A session for whoever shows a link's secret.
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

    /// Who asks; `None` where a key is needed and none that is known was shown.
    pub fn identify(&self, head: &Head, peer: &Peer) -> Option<Who> {
        if let Some(shown) = presented(head).map(hash) {
            let sessions = self.state();
            // Every one is compared, so that the time says nothing of which it was.
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

/// The key that a request shows: `Authorization: Bearer KEY`, or `x-api-key: KEY` as Anthropic's clients send it.
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

/// Compares all bytes, whatever they are.
fn same(left: &Hash, right: &Hash) -> bool {
    let differing = left.iter().zip(right).fold(0, |differing, (left, right)| differing | (left ^ right));
    std::hint::black_box(differing) == 0
}

/// Hashed once more, so that the number tells nothing of the hash that keys are compared by. Strangers have the small ones.
fn caller(hash: &Hash) -> Caller {
    let digest = Sha256::digest([b"caller".as_slice(), hash].concat());
    Caller(digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte)) | 1 << 63)
}

/// 128 bits of the system's randomness.
///
/// # Panics
/// Where the system has none: nothing that was made without could be kept secret.
fn secret() -> String {
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
    fn keys_let_in_those_who_show_one() {
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
    fn without_keys_all_are_one_caller_unless_they_are_isolated() {
        let other = Peer { connection: 8, ..PEER };
        let open = access(&[], false);
        // Clients send some key always.
        let who = open.identify(&head("Authorization: Bearer none\r\n"), &PEER).unwrap();
        assert!(!who.known && Some(who) == open.identify(&head(""), &other));
        let apart = access(&[], true);
        assert_ne!(apart.identify(&head(""), &PEER), apart.identify(&head(""), &other));
        assert_eq!(apart.identify(&head(""), &PEER), apart.identify(&head(""), &PEER));
    }

    #[test]
    fn a_link_gives_a_session_and_the_browsers_only_one() {
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
            // The link's secret is no key.
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
