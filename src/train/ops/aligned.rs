//! Numbers that begin at a cache line, so that no vector of theirs lies across two.

/// As many numbers as the widest vector holds.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line<T>([T; 16]);

/// A vector of zeros to begin with, aligned to 64 bytes.
#[derive(Clone, Default)]
pub struct Aligned<T> {
    lines: Vec<Line<T>>,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub fn zeros(len: usize) -> Aligned<T> {
        const { assert!(size_of::<Line<T>>() == 16 * size_of::<T>(), "lines without padding") };
        Aligned { lines: vec![Line::default(); len.div_ceil(16)], len }
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: a `Line<T>` is sixteen `T`s without padding for the types used (4 and 8 bytes), and `len` is at most
        // sixteen times their number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
