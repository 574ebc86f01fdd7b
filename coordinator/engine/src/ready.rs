//! A set of small numbers that gives its smallest at once: a tree of 64-bit words, one bit a number.
//!
//! It is canonical (equal sets are equal words), so a replayed state can be compared with a live one.

/// Numbers below a fixed bound.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReadySet {
    /// `levels[0]` has a bit for each number, `levels[n + 1]` a bit for each word of `levels[n]` that is not 0.
    levels: Vec<Vec<u64>>,
}

impl ReadySet {
    /// The empty set of numbers below `bound`.
    pub fn new(bound: usize) -> Self {
        let mut levels = Vec::new();
        let mut words = bound.div_ceil(64).max(1);
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
            words = words.div_ceil(64);
        }
    }

    /// Adds a number below the bound.
    pub fn insert(&mut self, mut number: usize) {
        for level in &mut self.levels {
            let word = &mut level[number / 64];
            let was_empty = *word == 0;
            *word |= 1 << (number % 64);
            if !was_empty {
                return;
            }
            number /= 64;
        }
    }

    /// Takes a number out; `false` if it was not in.
    pub fn remove(&mut self, number: usize) -> bool {
        if !self.contains(number) {
            return false;
        }
        let mut number = number;
        for level in &mut self.levels {
            let word = &mut level[number / 64];
            *word &= !(1 << (number % 64));
            if *word != 0 {
                break;
            }
            number /= 64;
        }
        true
    }

    /// Whether the set has the form of one of numbers below `bound`.
    pub fn holds(&self, bound: usize) -> bool {
        let form = |set: &Self| set.levels.iter().map(Vec::len).collect::<Vec<_>>();
        form(self) == form(&Self::new(bound))
    }

    /// Whether a number is in.
    pub fn contains(&self, number: usize) -> bool {
        self.levels[0][number / 64] & (1 << (number % 64)) != 0
    }

    /// The smallest number.
    pub fn first(&self) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            if word == 0 {
                return None;
            }
            at = at * 64 + word.trailing_zeros() as usize;
        }
        Some(at)
    }

    /// How many numbers are in. Linear in the bound.
    pub fn len(&self) -> usize {
        self.levels[0].iter().map(|word| word.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::ReadySet;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_an_ordered_set(
            bound in 1_usize..10_000,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..300),
        ) {
            let (mut set, mut model) = (ReadySet::new(bound), BTreeSet::new());
            for (insert, index) in steps {
                let number = index.index(bound);
                if insert {
                    set.insert(number);
                    model.insert(number);
                } else {
                    prop_assert_eq!(set.remove(number), model.remove(&number));
                }
                prop_assert_eq!(set.first(), model.first().copied());
                prop_assert_eq!(set.len(), model.len());
            }
        }
    }
}
