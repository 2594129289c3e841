//! What is stored in one piece of memory, when, and where: places are shared by what is not needed at the same time.
//!
//! Time is counted in steps by whoever plans; lengths are in whatever unit.

use std::ops::Range;

/// Something stored from `first` to `last`, both included.
struct Buffer {
    len: usize,
    first: usize,
    last: usize,
    start: usize,
}

pub struct Buffers {
    align: usize,
    all: Vec<Buffer>,
}

impl Buffers {
    /// Every place starts at a multiple of `align`.
    pub fn new(align: usize) -> Buffers {
        Buffers { align, all: Vec::new() }
    }

    /// Something of this length that is needed at `time`.
    pub fn add(&mut self, len: usize, time: usize) -> usize {
        self.all.push(Buffer { len: len.next_multiple_of(self.align), first: time, last: time, start: 0 });
        self.all.len() - 1
    }

    pub fn use_at(&mut self, buffer: usize, time: usize) {
        let buffer = &mut self.all[buffer];
        (buffer.first, buffer.last) = (buffer.first.min(time), buffer.last.max(time));
    }

    /// Each, largest first, at the lowest place that is free for as long as it lives. Returns the end of all.
    pub fn place(&mut self) -> usize {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.all[*index].len));
        let mut placed: Vec<usize> = Vec::new();
        for index in order {
            let (len, first, last) = (self.all[index].len, self.all[index].first, self.all[index].last);
            let mut taken: Vec<Range<usize>> = placed
                .iter()
                .map(|other| &self.all[*other])
                .filter(|other| other.first <= last && first <= other.last && other.len > 0)
                .map(|other| other.start..other.start + other.len)
                .collect();
            taken.sort_by_key(|range| range.start);
            let mut start = 0;
            for range in taken {
                if range.start >= start + len {
                    break;
                }
                start = start.max(range.end);
            }
            self.all[index].start = start;
            placed.push(index);
        }
        self.all.iter().map(|buffer| buffer.start + buffer.len).max().unwrap_or(0)
    }

    /// Where it lies, once all are placed.
    pub fn start(&self, buffer: usize) -> usize {
        self.all[buffer].start
    }
}
