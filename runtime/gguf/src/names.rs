//! An index over names: binary search and duplicate detection at half a hash map's memory.

/// Item positions, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameIndex(Vec<u32>);

impl NameIndex {
    /// Sorts the names; `Err` is the position of an item with a duplicate name.
    pub(crate) fn new<'a>(count: usize, name: impl Fn(usize) -> &'a str) -> Result<Self, usize> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by_key(|&at| (name(at as usize), at));
        match order.windows(2).find(|pair| name(pair[0] as usize) == name(pair[1] as usize)) {
            Some(pair) => Err(pair[1] as usize),
            None => Ok(Self(order)),
        }
    }

    /// The position of the item with this name.
    pub(crate) fn find<'a>(&self, wanted: &str, name: impl Fn(usize) -> &'a str) -> Option<usize> {
        let at = self.0.binary_search_by_key(&wanted, |&at| name(at as usize)).ok()?;
        Some(self.0[at] as usize)
    }
}
