//! What a file may say wrongly, and what follows from what it says.
