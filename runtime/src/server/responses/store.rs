//! Responses that are kept, so that later ones can follow them: within the process, bounded, each for its caller alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::server::access::Caller;
use crate::server::json::Weight;

/// Most responses kept; the oldest go first.
const MAX_KEPT: usize = 1000;
/// Most memory of theirs.
const MAX_BYTES: usize = 256 << 20;

/// A kept response.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The response as it was sent.
    pub(super) object: Value,
    /// All items of its conversation: of earlier responses, of its input and of its output. Those that follow share them.
    pub(super) items: Vec<Arc<Value>>,
}

struct Entry {
    caller: Caller,
    id: String,
    kept: Kept,
    bytes: usize,
}

/// The kept responses of a server.
#[derive(Default)]
pub(in crate::server) struct Store {
    entries: Mutex<VecDeque<Entry>>,
}

impl Store {
    /// Keeps a response. One that is larger than all room for them is not kept.
    pub(super) fn keep(&self, caller: Caller, id: &str, kept: Kept) {
        // Items count for every response that has them, which errs to the safe side.
        let weigh = |value: &Value| Weight::of(value.to_string().as_bytes()).bytes;
        let bytes = weigh(&kept.object) + kept.items.iter().map(|item| weigh(item)).sum::<usize>();
        if bytes > MAX_BYTES {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push_back(Entry { caller, id: id.to_owned(), kept, bytes });
        while entries.len() > MAX_KEPT || entries.iter().map(|entry| entry.bytes).sum::<usize>() > MAX_BYTES {
            entries.pop_front();
        }
    }

    /// The caller's response with this id.
    pub(super) fn get(&self, caller: Caller, id: &str) -> Option<Kept> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find(|entry| entry.caller == caller && entry.id == id).map(|entry| entry.kept.clone())
    }

    /// An item of the caller's with this id, of the newest response that has it.
    pub(super) fn item(&self, caller: Caller, id: &str) -> Option<Arc<Value>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let own = entries.iter().rev().filter(|entry| entry.caller == caller);
        own.flat_map(|entry| &entry.kept.items).find(|item| item["id"] == id).cloned()
    }

    /// Forgets the caller's response with this id; says whether there was one.
    pub(super) fn forget(&self, caller: Caller, id: &str) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.len();
        entries.retain(|entry| entry.caller != caller || entry.id != id);
        entries.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(text: &str) -> Kept {
        Kept { object: json!({ "text": text }), items: vec![Arc::new(json!(text))] }
    }

    #[test]
    fn a_response_belongs_to_its_caller_until_it_is_forgotten() {
        let store = Store::default();
        store.keep(Caller(1), "a", kept("one"));
        store.keep(Caller(2), "b", kept("two"));
        assert_eq!(store.get(Caller(1), "a").map(|kept| kept.object), Some(json!({"text": "one"})));
        assert!(store.get(Caller(2), "a").is_none() && store.get(Caller(1), "b").is_none());
        assert!(!store.forget(Caller(2), "a") && store.forget(Caller(1), "a"));
        assert!(store.get(Caller(1), "a").is_none() && store.get(Caller(2), "b").is_some());
    }

    #[test]
    fn an_item_is_found_by_its_id_and_its_caller() {
        let store = Store::default();
        let items = vec![Arc::new(json!({"role": "user"})), Arc::new(json!({"id": "msg_1", "type": "message"}))];
        store.keep(Caller(1), "a", Kept { object: json!({}), items });
        assert_eq!(store.item(Caller(1), "msg_1").map(|item| item["type"].clone()), Some(json!("message")));
        assert!(store.item(Caller(2), "msg_1").is_none() && store.item(Caller(1), "msg_2").is_none());
    }

    #[test]
    fn room_is_bounded_by_number_and_by_memory() {
        let store = Store::default();
        for index in 0..=MAX_KEPT {
            store.keep(Caller(1), &index.to_string(), kept("x"));
        }
        assert!(store.get(Caller(1), "0").is_none() && store.get(Caller(1), "1").is_some());
        let large = "x".repeat(MAX_BYTES / 70);
        store.keep(Caller(1), "large", kept(&large));
        store.keep(Caller(1), "larger", kept(&large));
        assert!(store.get(Caller(1), "large").is_none() && store.get(Caller(1), "larger").is_some());
        store.keep(Caller(1), "too large", kept(&large.repeat(2)));
        assert!(store.get(Caller(1), "too large").is_none() && store.get(Caller(1), "larger").is_some());
    }
}
