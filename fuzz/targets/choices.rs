//! An input read as choices: what to take, what to change in it, and where.
//!
//! An input that has ended chooses zero for ever, so every input is a whole program, and a shorter
//! one is a simpler one.

/// The choices that are left.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// The choices of an input.
    pub fn of(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether all that follows is zero.
    pub fn are_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                *byte
            }
            None => 0,
        }
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let low = usize::from(self.byte());
        let number = if end > 256 { low | usize::from(self.byte()) << 8 } else { low };
        number.checked_rem(end).unwrap_or(0)
    }

    /// So many bytes, or as many as are left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// One of these; `None` where there is none.
    pub fn one_of<'b, T>(&mut self, all: &'b [T]) -> Option<&'b T> {
        all.get(self.below(all.len()))
    }
}
