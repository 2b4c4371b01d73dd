//! Reasoning before a constrained answer: it is free, it must end before the answer may, and it can have a budget.
//!
//! The grammar begins behind the text that ends the reasoning.

use std::collections::VecDeque;
use std::sync::Arc;

use super::mark::Mark;
use crate::TokenId;
use crate::sampling::{Constraint, TokenMask};
use crate::tokenizer::Tokenizer;

/// Most tokens that can be undone: more than any step of a speculation has.
const UNDOABLE: usize = 256;

/// Reasoning, then an answer.
#[derive(Clone, Debug)]
pub struct Reasoned {
    tokenizer: Arc<Tokenizer>,
    end: Mark,
    /// The tokens that are written once the budget is spent.
    forced: Arc<[TokenId]>,
    /// The token that begins reasoning, where that is the model's choice.
    opens: Option<TokenId>,
    budget: usize,
    /// What the answer follows.
    inner: Option<Box<dyn Constraint>>,
    /// Tokens that must not end it before the answer.
    ends: Arc<[TokenId]>,
    state: State,
    earlier: VecDeque<State>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    /// The reasoning's last bytes, fewer than end it.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come, and it may be either.
    Begin,
    /// So many tokens of reasoning have come.
    Reasoning(usize),
    /// The budget is spent, and so many of the forced tokens have come.
    Ending(usize),
    Answer,
}

impl Reasoned {
    /// `end` ends the reasoning, and `forced`, which ends in it, is written after `budget` tokens. `opens` is the token that begins
    /// reasoning; `None` if the prompt has begun it.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        (end, forced): (Mark, Arc<[TokenId]>),
        opens: Option<TokenId>,
        budget: Option<usize>,
        inner: Option<Box<dyn Constraint>>,
        ends: Arc<[TokenId]>,
    ) -> Self {
        let budget = budget.filter(|_| !forced.is_empty()).unwrap_or(usize::MAX);
        let phase = if opens.is_some() { Phase::Begin } else { reasoning(0, budget) };
        let state = State { phase, tail: Vec::new() };
        Self { tokenizer, end, forced, opens, budget, inner, ends, state, earlier: VecDeque::new() }
    }

    fn all(&self) -> TokenMask {
        TokenMask::all(self.tokenizer.vocab_size())
    }

    fn answer(&mut self) -> Result<TokenMask, String> {
        match &mut self.inner {
            Some(inner) => inner.allowed(),
            None => Ok(self.all()),
        }
    }

    /// Everything but an end of the answer, if one must follow, and what would hold its beginning.
    fn free(&self) -> TokenMask {
        let mut mask = self.all();
        if self.inner.is_none() {
            return mask;
        }
        self.ends.iter().for_each(|&end| mask.forbid(end));
        self.end.forbid_straddling(&self.state.tail, &mut mask);
        mask
    }

    fn reasoned(&mut self, token: TokenId, spent: usize) -> Phase {
        self.state.tail.extend_from_slice(&self.tokenizer.token_bytes(token, true));
        if self.end.is_in(&self.state.tail) {
            return Phase::Answer;
        }
        let kept = self.state.tail.len().saturating_sub(self.end.len() - 1);
        self.state.tail.drain(..kept);
        reasoning(spent + 1, self.budget)
    }
}

fn reasoning(spent: usize, budget: usize) -> Phase {
    if spent < budget { Phase::Reasoning(spent) } else { Phase::Ending(0) }
}

impl Constraint for Reasoned {
    fn is_ready(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_ready())
    }

    fn allowed(&mut self) -> Result<TokenMask, String> {
        match self.state.phase {
            Phase::Begin => {
                let mut mask = self.answer()?;
                self.opens.iter().for_each(|&opens| mask.allow(opens));
                Ok(mask)
            }
            Phase::Reasoning(_) => Ok(self.free()),
            Phase::Ending(at) => {
                let mut mask = TokenMask::none(self.tokenizer.vocab_size());
                mask.allow(self.forced[at]);
                Ok(mask)
            }
            Phase::Answer => self.answer(),
        }
    }

    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        let earlier = self.state.clone();
        self.state.phase = match earlier.phase {
            Phase::Begin if self.opens == Some(token) => reasoning(0, self.budget),
            Phase::Begin | Phase::Answer => {
                if let Some(inner) = &mut self.inner {
                    inner.accept(token)?;
                }
                Phase::Answer
            }
            Phase::Reasoning(spent) => self.reasoned(token, spent),
            Phase::Ending(at) if at + 1 < self.forced.len() => Phase::Ending(at + 1),
            Phase::Ending(_) => Phase::Answer,
        };
        self.earlier.push_back(earlier);
        if self.earlier.len() > UNDOABLE {
            self.earlier.pop_front();
        }
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        match (self.state.phase, &mut self.inner) {
            (Phase::Ending(at), _) => self.forced[at..].to_vec(),
            (Phase::Answer, Some(inner)) => inner.forced(),
            _ => Vec::new(),
        }
    }

    fn is_complete(&self) -> bool {
        self.state.phase == Phase::Answer && self.inner.as_ref().is_some_and(|inner| inner.is_complete())
    }

    fn roll_back(&mut self, tokens: usize) -> Result<(), String> {
        let mut of_answer = 0;
        for _ in 0..tokens {
            let earlier = self.earlier.pop_back().ok_or("the reasoning cannot be undone that far")?;
            let answered = match earlier.phase {
                Phase::Begin => self.state.phase == Phase::Answer,
                phase => phase == Phase::Answer,
            };
            of_answer += usize::from(answered);
            self.state = earlier;
        }
        match &mut self.inner {
            Some(inner) if of_answer > 0 => inner.roll_back(of_answer),
            _ => Ok(()),
        }
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::{Format, Grammars};

    fn tokenizer() -> Arc<Tokenizer> {
        let bytes = crate::tokenizer::tests::vocabulary("smollm2");
        let gguf = satchel_gguf::Gguf::parse(&bytes).expect("a sound GGUF");
        Arc::new(Tokenizer::from_gguf(&gguf.metadata).expect("a tokenizer"))
    }

    fn constraint(tokenizer: &Arc<Tokenizer>, opens: Option<TokenId>, budget: Option<usize>) -> Reasoned {
        let grammar =
            Grammars::new(Arc::clone(tokenizer)).compile(&Format::Choice(vec!["yes".into()])).expect("a grammar");
        let ends = tokenizer.end_tokens();
        let end = Mark::new(tokenizer, "</think>");
        let forced = tokenizer.encode("\n</think>\n\n", false, true).expect("ids").into();
        let inner = grammar.constraint(Arc::clone(&ends));
        Reasoned::new(Arc::clone(tokenizer), (end, forced), opens, budget, Some(inner), ends)
    }

    fn write(constraint: &mut Reasoned, tokenizer: &Tokenizer, text: &str) -> usize {
        let ids = tokenizer.encode(text, false, true).expect("ids");
        for &id in &ids {
            assert!(constraint.allowed().expect("a mask").allows(id), "{:?}", tokenizer.token_text(id));
            constraint.accept(id).expect("allowed");
        }
        ids.len()
    }

    #[test]
    fn the_answer_begins_behind_the_reasoning() {
        let tokenizer = tokenizer();
        let mut reasoned = constraint(&tokenizer, None, None);
        write(&mut reasoned, &tokenizer, "Is it {\"so\"}? I think </thi no");
        let end = tokenizer.end_tokens()[0];
        assert!(!reasoned.allowed().expect("a mask").allows(end), "an answer must follow");
        write(&mut reasoned, &tokenizer, " so.</think>");
        let id = |text: &str| tokenizer.encode(text, false, true).expect("ids")[0];
        let mask = reasoned.allowed().expect("a mask");
        assert!(mask.allows(id("yes")) && !mask.allows(id("no")) && !mask.allows(end));
        let length = write(&mut reasoned, &tokenizer, "yes");
        assert!(reasoned.is_complete());
        reasoned.roll_back(length + 1).expect("undone");
        assert!(!reasoned.is_complete() && reasoned.allowed().expect("a mask").allows(id("no")), "reasoning again");
        write(&mut reasoned, &tokenizer, ">");
        write(&mut reasoned, &tokenizer, "yes");
        assert!(reasoned.is_complete());
    }

    #[test]
    fn no_token_holds_the_end_and_more() {
        let tokenizer = tokenizer();
        let mut reasoned = constraint(&tokenizer, None, None);
        let straddling: Vec<TokenId> =
            reasoned.end.straddling().filter(|(_, length)| *length == 1).map(|(id, _)| *id).collect();
        assert!(
            straddling.iter().any(|&id| tokenizer.token_bytes(id, true).starts_with(b"><")),
            "{}",
            straddling.len()
        );
        let count = |reasoned: &mut Reasoned| {
            let mask = reasoned.allowed().expect("a mask");
            straddling.iter().filter(|&&id| mask.allows(id)).count()
        };
        assert_eq!(count(&mut reasoned), straddling.len());
        write(&mut reasoned, &tokenizer, "so </think");
        assert_eq!(count(&mut reasoned), 0);
    }

    #[test]
    fn a_budget_ends_the_reasoning() {
        let tokenizer = tokenizer();
        let mut reasoned = constraint(&tokenizer, None, Some(3));
        for _ in 0..3 {
            let id = tokenizer.encode(" and", false, true).expect("ids")[0];
            assert!(reasoned.allowed().expect("a mask").allows(id));
            reasoned.accept(id).expect("allowed");
        }
        let mut text = String::new();
        while !reasoned.is_complete() {
            let mask = reasoned.allowed().expect("a mask");
            let mut allowed = (0..tokenizer.vocab_size() as TokenId).filter(|&id| mask.allows(id));
            let id = allowed.next().expect("a token");
            text += tokenizer.token_text(id);
            reasoned.accept(id).expect("allowed");
        }
        assert!(text.replace('Ċ', "\n").starts_with("\n</think>\n\n"), "{text}");
        assert!(text.ends_with("yes"), "{text}");
    }

    #[test]
    fn reasoning_is_the_models_choice_where_the_prompt_has_not_begun_it() {
        let tokenizer = tokenizer();
        let opens = tokenizer.encode("<", false, true).expect("ids")[0];
        let mut answers = constraint(&tokenizer, Some(opens), Some(8));
        let length = write(&mut answers, &tokenizer, "yes");
        assert!(answers.is_complete());
        answers.roll_back(length).expect("undone");
        write(&mut answers, &tokenizer, "<");
        write(&mut answers, &tokenizer, "hm</think>yes");
        assert!(answers.is_complete());
    }
}
