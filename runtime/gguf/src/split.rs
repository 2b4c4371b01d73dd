//! Split models: `name-00001-of-00003.gguf` and its siblings, and how their tables become one.
//!
//! The first part holds the metadata; each part says its number, the count of parts and the count of tensors in all.

use crate::error::{Error, shown};
use crate::parse::Gguf;
use crate::{TensorInfo, limits};

const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// What a part says about the model it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Which part this is, from 0.
    pub number: u32,
    /// How many parts there are.
    pub count: u32,
    /// How many tensors all parts have together, where the file says so.
    pub tensors: Option<u64>,
}

impl Split {
    /// The line for a part whose file is not called as its siblings could be found by.
    pub fn misnamed(&self) -> String {
        let (number, count) = (self.number + 1, self.count);
        let name = PartName { prefix: "NAME".to_owned(), number, count };
        let (own, last) = (name.file_name(number), name.file_name(count));
        format!(
            "is part {number} of {count}: give it its name back, {own}, and put all parts up to {last} in one folder"
        )
    }
}

/// The name of a part's file, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartName {
    /// What comes before `-00001-of-00003.gguf`.
    pub prefix: String,
    /// Which part it is, from 1 as in the name.
    pub number: u32,
    /// How many parts there are.
    pub count: u32,
}

impl PartName {
    /// Takes the name of a file apart (without its folder); `None` where it is not that of a part.
    pub fn recognise(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| -> Option<u32> {
            (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        let valid = (1..=count).contains(&number) && count <= limits::PARTS;
        valid.then(|| Self { prefix: prefix.to_owned(), number, count })
    }

    /// Whether a file of this name may be that part.
    pub fn is_of(&self, split: &Split) -> bool {
        self.count == split.count
    }

    /// The name of part `number`, from 1.
    pub fn file_name(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count)
    }

    /// The names of all parts in order, this one among them.
    pub fn siblings(&self) -> impl ExactSizeIterator<Item = String> {
        (0..self.count as usize).map(|before| self.file_name(before as u32 + 1))
    }
}

impl Gguf {
    /// Which part of a split model this file is; `None` for a whole model.
    pub fn split(&self) -> Result<Option<Split>, Error> {
        let count = self.metadata.get_u32(COUNT_KEY)?.unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        let number = self.metadata.get_u32(NUMBER_KEY)?.unwrap_or(0);
        if count > limits::PARTS || number >= count {
            return Err(Error::Split(format!("a file says that it is part {} of {count}", u64::from(number) + 1)));
        }
        let tensors = self.metadata.get_u64(TENSORS_KEY)?;
        Ok(Some(Split { number, count, tensors }))
    }

    /// Makes one model of its parts, given in order. A single whole file is its own result.
    ///
    /// # Errors
    /// A part is missing, comes twice, is out of order or belongs to another model; two parts hold the same tensor.
    pub fn join(parts: Vec<Self>) -> Result<Self, Error> {
        let given = parts.len();
        let mut parts = parts.into_iter();
        let Some(mut whole) = parts.next() else {
            return Err(Error::Split("no part was given".to_owned()));
        };
        let Some(first) = whole.split()? else {
            return match parts.next() {
                None => Ok(whole),
                Some(_) => Err(Error::Split("the first file is a whole model, not a part of one".to_owned())),
            };
        };
        if first.number != 0 {
            return Err(Error::Split(format!(
                "the first file given is part {} of {}; part 1 holds the metadata",
                first.number + 1,
                first.count
            )));
        }
        if given != first.count as usize {
            return Err(Error::Split(format!("it has {} parts, {given} were given", first.count)));
        }
        let mut tensors = std::mem::take(&mut whole.tensors);
        for (at, part) in (1..).zip(parts) {
            check_part(&whole, &part, &first, at)?;
            whole.part_bytes.extend(&part.part_bytes);
            tensors.extend(part.tensors.into_iter().map(|tensor| TensorInfo { part: at, ..tensor }));
        }
        if let Some(expected) = first.tensors.filter(|&expected| expected != tensors.len() as u64) {
            return Err(Error::Split(format!(
                "its parts hold {} tensors, {expected} are needed: a part belongs to another model",
                tensors.len()
            )));
        }
        whole.set_tensors(tensors)?;
        Ok(whole)
    }
}

/// Checks that `part` is the one at position `at` of the model that begins with `whole`.
fn check_part(whole: &Gguf, part: &Gguf, first: &Split, at: usize) -> Result<(), Error> {
    let file = at + 1;
    let Some(split) = part.split()? else {
        return Err(Error::Split(format!("file {file} is a whole model, not a part of one")));
    };
    if split.number as usize != at || split.count != first.count {
        return Err(Error::Split(format!(
            "file {file} of {} says that it is part {} of {}",
            first.count,
            split.number + 1,
            split.count
        )));
    }
    if split.tensors.is_some() && first.tensors.is_some() && split.tensors != first.tensors {
        return Err(Error::Split(format!("file {file} belongs to another model: its count of tensors differs")));
    }
    let key = "general.architecture";
    let (ours, theirs) = (whole.metadata.get_str(key)?, part.metadata.get_str(key)?);
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Error::Split(format!(
            "file {file} belongs to another model: its architecture is {}, not {}",
            shown(theirs),
            shown(ours)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GgufWriter, TensorType, Value};

    fn part(number: u16, count: u16, names: &[&str], tensors: i32) -> Gguf {
        let mut writer = GgufWriter::new();
        if number == 0 {
            writer.set("general.architecture", Value::String("llama".into()));
        }
        writer.set(NUMBER_KEY, Value::U16(number)).set(COUNT_KEY, Value::U16(count));
        writer.set(TENSORS_KEY, Value::I32(tensors));
        for name in names {
            writer.tensor(name, &[8], TensorType::F32).unwrap();
        }
        let data = vec![[0; 32].as_slice(); names.len()];
        Gguf::parse(&writer.layout().unwrap().to_bytes(&data).unwrap()).unwrap()
    }

    #[test]
    fn part_names_are_taken_apart_and_made() {
        let name = PartName::recognise("a-b-of-c-00002-of-00003.gguf").unwrap();
        assert_eq!((name.prefix.as_str(), name.number, name.count), ("a-b-of-c", 2, 3));
        let all: Vec<String> = name.siblings().collect();
        assert_eq!(all[1], "a-b-of-c-00002-of-00003.gguf");
        assert_eq!((all.len(), all[2].as_str()), (3, "a-b-of-c-00003-of-00003.gguf"));
        for other in [
            "m.gguf",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-1-of-3.gguf",
            "m-00001-of-00003.bin",
            "m-+0001-of-00003.gguf",
            "00001-of-00003.gguf",
        ] {
            assert_eq!(PartName::recognise(other), None, "{other}");
        }
    }

    #[test]
    fn parts_become_one_model() {
        let parts = vec![part(0, 3, &["a", "b"], 4), part(1, 3, &["c"], 4), part(2, 3, &["d"], 4)];
        let bytes: Vec<u64> = parts.iter().map(|part| part.part_bytes[0]).collect();
        let whole = Gguf::join(parts).unwrap();
        assert_eq!(whole.tensors.len(), 4);
        assert_eq!(whole.tensor("d").unwrap().part, 2);
        assert_eq!(whole.tensor("a").unwrap().part, 0);
        assert_eq!(whole.part_bytes, bytes);
        assert_eq!(whole.metadata.get_str("general.architecture").unwrap(), Some("llama"));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let whole = |name: &str| {
            let mut writer = GgufWriter::new();
            writer.tensor(name, &[8], TensorType::F32).unwrap();
            Gguf::parse(&writer.layout().unwrap().to_bytes(&[&[0; 32]]).unwrap()).unwrap()
        };
        let line = |parts: Vec<Gguf>| Gguf::join(parts).unwrap_err().to_string();
        assert_eq!(Gguf::join(vec![whole("a")]).unwrap(), whole("a"));
        assert!(line(vec![]).contains("no part"));
        assert!(line(vec![whole("a"), whole("b")]).contains("whole model"));
        assert!(line(vec![part(0, 2, &["a"], 2)]).contains("2 parts, 1 were given"));
        assert!(line(vec![part(1, 2, &["a"], 2), part(0, 2, &["b"], 2)]).contains("part 2 of 2"));
        assert!(line(vec![part(0, 2, &["a"], 2), whole("b")]).contains("file 2 is a whole model"));
        assert!(line(vec![part(0, 2, &["a"], 2), part(0, 2, &["b"], 2)]).contains("part 1 of 2"));
        assert!(line(vec![part(0, 2, &["a"], 2), part(1, 2, &["a"], 2)]).contains("two tensors are called 'a'"));
        assert!(line(vec![part(0, 2, &["a"], 3), part(1, 2, &["b"], 3)]).contains("2 tensors, 3 are needed"));
        assert!(line(vec![part(0, 2, &["a"], 2), part(1, 2, &["b"], 3)]).contains("another model"));
        let stray = part(5, 3, &["a"], 1).split().unwrap_err().to_string();
        assert!(stray.contains("part 6 of 3"), "{stray}");
    }
}
