//! An answer that is one of two things: what a format allows, or calls of tools.
//!
//! Both constraints read the answer side by side. A token is allowed if either allows it, and the one that did not allow the token
//! that came is out; from there on the other alone is asked, so that only the first tokens cost twice.

use std::collections::VecDeque;

use crate::TokenId;
use crate::sampling::{Constraint, TokenMask};

/// Most tokens that can be undone: more than any step of a speculation has.
const UNDOABLE: usize = 256;

/// Two constraints, of which one at least holds.
#[derive(Clone, Debug)]
pub struct Either {
    sides: [Box<dyn Constraint>; 2],
    /// Which of them the answer so far satisfies.
    holds: [bool; 2],
    /// The same before each of the last tokens.
    earlier: VecDeque<[bool; 2]>,
}

impl Either {
    /// At the beginning of an answer.
    pub fn new(one: Box<dyn Constraint>, other: Box<dyn Constraint>) -> Self {
        Self { sides: [one, other], holds: [true; 2], earlier: VecDeque::new() }
    }

    /// The side that alone is left.
    fn only(&self) -> Option<usize> {
        match self.holds {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }
}

impl Constraint for Either {
    fn is_ready(&self) -> bool {
        self.sides.iter().all(|side| side.is_ready())
    }

    fn allowed(&mut self) -> Result<TokenMask, String> {
        if let Some(only) = self.only() {
            return self.sides[only].allowed();
        }
        let mut mask = self.sides[0].allowed()?;
        mask.allow_also(&self.sides[1].allowed()?);
        Ok(mask)
    }

    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        let mut holds = self.holds;
        if let Some(only) = self.only() {
            self.sides[only].accept(token)?;
        } else {
            for (side, holds) in self.sides.iter_mut().zip(&mut holds) {
                *holds = side.allowed()?.allows(token);
            }
            for (side, _) in self.sides.iter_mut().zip(holds).filter(|(_, holds)| *holds) {
                side.accept(token)?;
            }
        }
        if holds == [false; 2] {
            return Err("the answer is neither what its format allows nor a call".to_owned());
        }
        self.earlier.push_back(std::mem::replace(&mut self.holds, holds));
        if self.earlier.len() > UNDOABLE {
            self.earlier.pop_front();
        }
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        self.only().map(|only| self.sides[only].forced()).unwrap_or_default()
    }

    fn is_complete(&self) -> bool {
        self.sides.iter().zip(self.holds).all(|(side, holds)| !holds || side.is_complete())
    }

    fn roll_back(&mut self, tokens: usize) -> Result<(), String> {
        let mut read = [0; 2];
        for _ in 0..tokens {
            // A side has read the tokens after which it still held.
            read.iter_mut().zip(self.holds).for_each(|(read, holds)| *read += usize::from(holds));
            self.holds = self.earlier.pop_back().ok_or("an answer cannot be undone that far")?;
        }
        for (side, read) in self.sides.iter_mut().zip(read).filter(|(_, read)| *read > 0) {
            side.roll_back(read)?;
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::grammar::{Format, Grammars};
    use crate::tokenizer::Tokenizer;

    fn either(one: &[&str], other: &[&str]) -> (Either, Arc<Tokenizer>) {
        let bytes = crate::tokenizer::tests::vocabulary("smollm2");
        let gguf = satchel_gguf::Gguf::parse(&bytes).expect("a sound GGUF");
        let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf.metadata).expect("a tokenizer"));
        let grammars = Grammars::new(Arc::clone(&tokenizer));
        let side = |texts: &[&str]| {
            let choice = Format::Choice(texts.iter().map(|text| (*text).to_owned()).collect());
            grammars.compile(&choice).expect("a grammar").constraint(tokenizer.end_tokens())
        };
        (Either::new(side(one), side(other)), tokenizer)
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
        text.bytes()
            .flat_map(|byte| tokenizer.encode(&char::from(byte).to_string(), false, true).expect("ids"))
            .collect()
    }

    fn write(either: &mut Either, ids: &[TokenId]) {
        for &id in ids {
            assert!(either.allowed().expect("a mask").allows(id));
            either.accept(id).expect("allowed");
        }
    }

    #[test]
    fn both_are_open_until_a_token_tells() {
        let (mut both, tokenizer) = either(&["{\"a\":1}", "no"], &["{\"b\":2}"]);
        let id = |text: &str| ids(&tokenizer, text)[0];
        write(&mut both, &ids(&tokenizer, "{\""));
        let mask = both.allowed().expect("a mask");
        assert!(mask.allows(id("a")) && mask.allows(id("b")) && !mask.allows(id("n")));
        write(&mut both, &[id("b")]);
        assert!(!both.allowed().expect("a mask").allows(id("1")) && !both.is_complete());
        write(&mut both, &ids(&tokenizer, "\":2}"));
        assert!(both.is_complete());
        assert!(both.clone().accept(id("x")).is_err(), "nothing follows");
    }

    #[test]
    fn what_is_undone_opens_both_again() {
        let (mut both, tokenizer) = either(&["{\"a\":1}"], &["{\"b\":2}"]);
        let first = ids(&tokenizer, "{\"b\":2}");
        write(&mut both, &first);
        both.roll_back(first.len() - 1).expect("undone");
        write(&mut both, &ids(&tokenizer, "\"a\":1}"));
        assert!(both.is_complete());
        both.roll_back(first.len()).expect("undone");
        write(&mut both, &first);
        assert!(both.roll_back(first.len() + 1).is_err());
    }
}
