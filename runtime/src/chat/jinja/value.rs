//! Template values: the Python types that templates can create.
//!
//! Values are immutable except for namespaces, loops and streams. Lists track their nesting depth and whether they contain
//! a namespace, so that no value can contain itself and recursion over values terminates.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::rc::Rc;

use super::budget::{Held, MAX_NESTING, Result, check_items, failed, limit, spend};
use super::operators::equal;
use super::units::{self, Text, UNTRUSTED};

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// With a description for the error message if it is used.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(List),
    Tuple(List),
    Dict(Dict),
    /// `dict.keys()` and the like: printable and sized, but not indexable.
    View(&'static str, List),
    Range(i64, i64, i64),
    /// A generator: yields its items once.
    Stream(Rc<Stream>),
    Namespace(Rc<Namespace>),
    /// A macro, by its index in the interpreter.
    Macro(usize),
    /// A global function.
    Function(&'static str),
    /// A bound method.
    Method(Rc<Value>, &'static str),
    Loop(Rc<Loop>),
    Cycler(Rc<Cycler>),
    Joiner(Rc<(Text, Cell<bool>)>),
}

/// Items of a list or a tuple.
#[derive(Clone, Debug)]
pub(super) struct List(Rc<Items>);

#[derive(Debug)]
struct Items {
    items: Vec<Value>,
    shape: Shape,
    _held: Held,
}

/// Facts about a value's contents.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    depth: u16,
    /// Contains a namespace or a loop.
    loose: bool,
}

impl Shape {
    fn of(values: &[Value]) -> Result<Shape> {
        let mut shape = Shape::default();
        for value in values {
            let inner = value.shape();
            shape.depth = shape.depth.max(inner.depth + 1);
            shape.loose |= inner.loose;
        }
        if shape.depth > MAX_NESTING {
            return Err(limit(format!("it nests lists deeper than {MAX_NESTING}")));
        }
        Ok(shape)
    }
}

impl List {
    pub(super) fn new(items: Vec<Value>) -> Result<List> {
        check_items(items.len())?;
        spend(items.len() * 2)?;
        let held = Held::take(items.len() * size_of::<Value>() + 64)?;
        let shape = Shape::of(&items)?;
        Ok(List(Rc::new(Items { items, shape, _held: held })))
    }

    pub(super) fn items(&self) -> &[Value] {
        &self.0.items
    }

    pub(super) fn len(&self) -> usize {
        self.0.items.len()
    }

    pub(super) fn is_same(&self, other: &List) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// A dictionary in insertion order.
#[derive(Clone, Debug)]
pub(super) struct Dict(Rc<Entries>);

#[derive(Debug)]
struct Entries {
    entries: Vec<(Value, Value)>,
    /// Indices by hash, for dictionaries larger than `SMALL`.
    index: OnceCell<(RandomState, HashMap<u64, Vec<u32>>)>,
    shape: Shape,
    _held: Held,
}

/// Dictionaries up to this size are searched linearly.
const SMALL: usize = 8;

impl Dict {
    /// For duplicate keys the last value wins, as in Python.
    pub(super) fn new(pairs: Vec<(Value, Value)>) -> Result<Dict> {
        check_items(pairs.len())?;
        spend(pairs.len() * 4)?;
        let held = Held::take(pairs.len() * (2 * size_of::<Value>() + 32) + 128)?;
        let state = RandomState::new();
        let mut places: HashMap<u64, Vec<u32>> = HashMap::with_capacity(pairs.len());
        let mut entries: Vec<(Value, Value)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let alike = places.entry(hash(&state, &key)?).or_default();
            let mut known = None;
            for place in alike.iter() {
                if equal(&entries[*place as usize].0, &key)? {
                    known = Some(*place as usize);
                }
            }
            match known {
                Some(place) => entries[place].1 = value,
                None => {
                    alike.push(entries.len() as u32);
                    entries.push((key, value));
                }
            }
        }
        let mut shape = Shape::default();
        for (key, value) in &entries {
            let inner = Shape::of(&[key.clone(), value.clone()])?;
            shape = Shape { depth: shape.depth.max(inner.depth), loose: shape.loose | inner.loose };
        }
        let index = OnceCell::new();
        if entries.len() > SMALL {
            let _ = index.set((state, places));
        }
        Ok(Dict(Rc::new(Entries { entries, index, shape, _held: held })))
    }

    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.0.entries
    }

    pub(super) fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// The value of a key; an unhashable key is an error.
    pub(super) fn get(&self, key: &Value) -> Result<Option<&Value>> {
        if let Some((state, index)) = self.0.index.get() {
            for place in index.get(&hash(state, key)?).into_iter().flatten() {
                let (known, value) = &self.0.entries[*place as usize];
                if equal(known, key)? {
                    return Ok(Some(value));
                }
            }
            return Ok(None);
        }
        require_hashable(key)?;
        for (known, value) in &self.0.entries {
            if equal(known, key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of a string key.
    pub(super) fn get_name(&self, name: &str) -> Result<Option<&Value>> {
        if self.0.index.get().is_some() {
            return self.get(&Value::Text(Text::of(name)?));
        }
        spend(self.len())?;
        Ok(self
            .entries()
            .iter()
            .find(|(key, _)| matches!(key, Value::Text(key) if key.is(name)))
            .map(|(_, value)| value))
    }
}

fn require_hashable(key: &Value) -> Result<()> {
    match key {
        Value::List(_) | Value::Dict(_) => Err(failed(format!("unhashable type: '{}'", key.type_name()))),
        Value::Tuple(items) => items.items().iter().try_for_each(require_hashable),
        _ => Ok(()),
    }
}

/// Equal values have equal hashes: 1, 1.0 and True are one key.
fn hash(state: &RandomState, key: &Value) -> Result<u64> {
    let mut hasher = state.build_hasher();
    hash_into(key, &mut hasher)?;
    Ok(hasher.finish())
}

fn hash_into(key: &Value, hasher: &mut impl Hasher) -> Result<()> {
    require_hashable(key)?;
    match key {
        Value::Text(text) => {
            spend(text.len())?;
            text.units().iter().for_each(|unit| (unit & !UNTRUSTED).hash(hasher));
        }
        Value::Bool(value) => i128::from(*value).hash(hasher),
        Value::Int(value) => value.hash(hasher),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 => (*value as i128).hash(hasher),
        Value::Float(value) => value.to_bits().hash(hasher),
        Value::Tuple(items) => items.items().iter().try_for_each(|item| hash_into(item, hasher))?,
        _ => {}
    }
    Ok(())
}

/// Items that can be taken once.
#[derive(Debug)]
pub(super) struct Stream {
    items: RefCell<Option<List>>,
    shape: Shape,
}

/// Jinja's `namespace`: the only mutable object.
#[derive(Debug, Default)]
pub(super) struct Namespace(pub(super) RefCell<Vec<(Text, Value)>>);

impl Namespace {
    pub(super) fn get(&self, name: &Text) -> Result<Option<Value>> {
        for (known, value) in self.0.borrow().iter() {
            if units::equal(known.units(), name.units())? {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    pub(super) fn set(&self, name: Text, value: Value) -> Result<()> {
        if value.shape().loose {
            return Err(failed("a namespace cannot hold a namespace or a loop"));
        }
        let mut values = self.0.borrow_mut();
        for (known, old) in values.iter_mut() {
            if units::equal(known.units(), name.units())? {
                *old = value;
                return Ok(());
            }
        }
        check_items(values.len() * 64)?;
        values.push((name, value));
        Ok(())
    }
}

/// The `loop` of a `for`.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: List,
    pub(super) index: Cell<usize>,
    pub(super) depth: usize,
    /// Index of the loop that `loop(…)` recurses into.
    pub(super) recursive: Option<usize>,
    /// Last arguments of `loop.changed`.
    pub(super) seen: RefCell<Option<List>>,
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: List,
    pub(super) at: Cell<usize>,
}

impl Value {
    pub(super) fn text(text: &str) -> Result<Value> {
        Text::of(text).map(Value::Text)
    }

    pub(super) fn units(units: Vec<u32>) -> Result<Value> {
        Text::new(units).map(Value::Text)
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Value> {
        List::new(items).map(Value::List)
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value> {
        List::new(items).map(Value::Tuple)
    }

    pub(super) fn stream(items: Vec<Value>) -> Result<Value> {
        let items = List::new(items)?;
        let shape = items.0.shape;
        Ok(Value::Stream(Rc::new(Stream { items: RefCell::new(Some(items)), shape })))
    }

    pub(super) fn undefined(what: impl Into<Rc<str>>) -> Value {
        Value::Undefined(what.into())
    }

    fn shape(&self) -> Shape {
        match self {
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => list.0.shape,
            Value::Dict(dict) => dict.0.shape,
            Value::Stream(stream) => stream.shape,
            Value::Method(of, _) => of.shape(),
            Value::Cycler(cycler) => cycler.items.0.shape,
            Value::Namespace(_) | Value::Loop(_) => Shape { depth: 1, loose: true },
            _ => Shape::default(),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Value::None)
    }

    pub(super) fn as_text(&self) -> Option<&Text> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an int or a bool.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    /// Python's `bool(value)`.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => list.len() > 0,
            Value::Dict(dict) => dict.len() > 0,
            Value::Range(start, stop, step) => range_len(*start, *stop, *step) > 0,
            _ => true,
        }
    }

    /// Python's `len(value)`, if defined.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Value::Undefined(_) => Some(0),
            Value::Text(text) => Some(text.len()),
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => Some(list.len()),
            Value::Dict(dict) => Some(dict.len()),
            Value::Range(start, stop, step) => Some(range_len(*start, *stop, *step)),
            Value::Loop(this) => Some(this.items.len()),
            _ => None,
        }
    }

    /// The items, as `for` iterates over them. A stream yields them once.
    pub(super) fn items(&self) -> Result<List> {
        match self {
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => Ok(list.clone()),
            Value::Dict(dict) => List::new(dict.entries().iter().map(|(key, _)| key.clone()).collect()),
            Value::Text(text) => {
                check_items(text.len())?;
                List::new(text.units().iter().map(|unit| Value::units(vec![*unit])).collect::<Result<_>>()?)
            }
            Value::Range(start, stop, step) => {
                let count = range_len(*start, *stop, *step) as i64;
                List::new((0..count).map(|i| Value::Int(i128::from(start + i * step))).collect())
            }
            Value::Stream(stream) => stream.items.borrow_mut().take().map_or_else(|| List::new(Vec::new()), Ok),
            Value::Undefined(_) => List::new(Vec::new()),
            Value::Loop(this) => List::new(this.items.items()[(this.index.get() + 1).min(this.items.len())..].to_vec()),
            other => Err(failed(format!("'{}' object is not iterable", other.type_name()))),
        }
    }

    pub(super) fn is_iterable(&self) -> bool {
        !matches!(
            self,
            Value::None
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::Namespace(_)
                | Value::Macro(_)
                | Value::Function(_)
                | Value::Method(..)
                | Value::Cycler(_)
                | Value::Joiner(_)
        )
    }

    /// Python's name of the value's type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(name, _) => name,
            Value::Range(..) => "range",
            Value::Stream(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Function(_) => "function",
            Value::Method(..) => "builtin_function_or_method",
            Value::Loop(_) => "LoopContext",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
        }
    }
}

pub(super) fn range_len(start: i64, stop: i64, step: i64) -> usize {
    let (start, stop, step) = (i128::from(start), i128::from(stop), i128::from(step));
    let count = if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
    usize::try_from(count.max(0)).unwrap_or(usize::MAX)
}
