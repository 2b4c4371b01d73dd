//! Forms of requests, and the order of events.
