//! A Huffman table for looking up codes with what is behind them, several at once where they are short.

use std::cell::RefCell;
use std::rc::Rc;

/// Bits that are looked up at once.
const LOOK: u32 = 11;
const SIZE: usize = 1 << LOOK;
/// What an end of block adds to a position: more than any run does.
pub const END_OF_BLOCK: u32 = 128;

/// What some bits begin with: a code and the number behind it, or two of both.
///
/// From the lowest bit on: bits of all (6), bits of the first (6), whether both numbers are known (1), whether the code is
/// (1), bits of the first code by itself (5), then from bit 19 how many coefficients it is to the first number (8) and on
/// to the second (8), 0 where there is none, and the numbers themselves from bit 35 (12) and 48 (16).
#[derive(Clone, Copy)]
pub struct Entry(u64);

impl Entry {
    const UNKNOWN: Entry = Entry(0);
    const KNOWN: u64 = 1 << 13;
    const WHOLE: u64 = 1 << 12;

    /// Of one code. `value` where it is within what is looked at.
    fn one(code_bits: u32, size: u32, advance: u32, value: Option<i16>) -> Entry {
        let bits = u64::from(code_bits + size);
        let value = value.map_or(0, |value| Entry::WHOLE | (value as u64 & 0xfff) << 35 | (value as u64) << 48);
        Entry(bits | bits << 6 | Entry::KNOWN | u64::from(code_bits) << 14 | u64::from(advance) << 19 | value)
    }

    /// Of a whole one, and another behind it.
    fn and(self, second: Entry) -> Entry {
        let bits = u64::from(self.bits() + second.bits());
        let first = self.0 & !(63 | 255 << 27 | 0xffff << 48);
        Entry(first | bits | u64::from(second.first_advance()) << 27 | second.0 & 0xffff << 48)
    }
}

/// In the order of an entry's bits.
impl Entry {
    pub fn bits(self) -> u32 {
        self.0 as u32 & 63
    }

    pub fn first_bits(self) -> u32 {
        self.0 as u32 >> 6 & 63
    }

    /// Whether all numbers are known.
    pub fn is_whole(self) -> bool {
        self.0 & Entry::WHOLE != 0
    }

    /// Whether the code is.
    pub fn is_known(self) -> bool {
        self.0 & Entry::KNOWN != 0
    }

    /// Bits of the first code alone.
    pub fn code_bits(self) -> u32 {
        self.0 as u32 >> 14 & 31
    }

    /// How many coefficients it is to the first number: zeros, and itself.
    pub fn first_advance(self) -> u32 {
        (self.0 >> 19) as u32 & 255
    }

    /// How many it is from there to the second.
    pub fn second_advance(self) -> u32 {
        (self.0 >> 27) as u32 & 255
    }

    pub fn first_value(self) -> i16 {
        ((self.0 << 17) as i64 >> 52) as i16
    }

    /// The first one's again where there is no second.
    pub fn second_value(self) -> i16 {
        (self.0 >> 48) as i16
    }
}

/// Some codes that are stepped over, from the first on; the number behind the last may be beyond what is looked at.
///
/// From the lowest bit on: bits of all (6), how many coefficients it is to the last (9), and to the one before it (8).
#[derive(Clone, Copy)]
pub struct Step(u32);

impl Step {
    pub fn is_known(self) -> bool {
        self.0 != 0
    }

    pub fn bits(self) -> u32 {
        self.0 & 63
    }

    pub fn advance(self) -> u32 {
        self.0 >> 6 & 511
    }

    pub fn before_last(self) -> u32 {
        self.0 >> 15
    }
}

/// Bits of the longest number of a baseline JPEG; longer ones are not stepped over with others.
const LONGEST: u32 = 10;

/// Tables that a thread keeps: most images have the same few.
const KEPT: usize = 16;

thread_local! {
    static TABLES: RefCell<Vec<(Vec<u8>, Rc<Table>)>> = const { RefCell::new(Vec::new()) };
}

/// What bits of a number mean (figure F.12).
pub fn extend(bits: i32, size: u32) -> i16 {
    let value = if bits < 1 << (size - 1) { bits + 1 - (1 << size) } else { bits };
    value as i16
}

pub struct Table {
    look: Box<[Entry; SIZE]>,
    /// Of an AC table.
    steps: Box<[Step; SIZE]>,
    /// For each length, what the first 16 bits of a longer code are not below, and what leads from code to symbol.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
    is_dc: bool,
}

impl Table {
    /// As [`Table::new`], which is not asked again while this thread remembers.
    pub fn kept(counts: &[u8; 16], symbols: &[u8], is_dc: bool) -> Option<Rc<Table>> {
        let key = [&counts[..], symbols, &[u8::from(is_dc)]].concat();
        TABLES.with_borrow_mut(|tables| {
            if let Some((_, table)) = tables.iter().find(|(known, _)| *known == key) {
                return Some(Rc::clone(table));
            }
            let table = Rc::new(Table::new(counts, symbols, is_dc)?);
            if tables.len() == KEPT {
                tables.remove(0);
            }
            tables.push((key, Rc::clone(&table)));
            Some(table)
        })
    }

    /// From how many codes there are of 1 to 16 bits, and their symbols. None where that is no table.
    fn new(counts: &[u8; 16], symbols: &[u8], is_dc: bool) -> Option<Table> {
        let mut table = Table {
            look: Box::new([Entry::UNKNOWN; SIZE]),
            steps: Box::new([Step(0); SIZE]),
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
            is_dc,
        };
        let (mut code, mut index) = (0u32, 0usize);
        for (bits, count) in (1u32..).zip(counts) {
            table.offsets[bits as usize] = index as i32 - code as i32;
            for symbol in symbols.get(index..index + usize::from(*count))? {
                if bits <= LOOK {
                    table.enter(code, bits, *symbol)?;
                }
                code += 1;
            }
            index += usize::from(*count);
            // No code is all ones.
            if code > (1 << bits) - 1 && *count > 0 {
                return None;
            }
            table.limits[bits as usize] = code << (16 - bits);
            code <<= 1;
        }
        if index != symbols.len() || (is_dc && symbols.iter().any(|size| *size > 15)) {
            return None;
        }
        if !is_dc {
            *table.steps = std::array::from_fn(|place| table.step(place));
            table.pair();
        }
        Some(table)
    }

    /// All places that begin with a code.
    fn enter(&mut self, code: u32, bits: u32, symbol: u8) -> Option<()> {
        let (advance, size) = self.meaning(symbol);
        let free = LOOK - bits;
        let first = (code << free) as usize;
        for (below, entry) in (0u32..).zip(self.look.get_mut(first..first + (1 << free))?) {
            let value = match size {
                0 => Some(0),
                _ => (size <= free).then(|| extend((below >> (free - size)) as i32, size)),
            };
            *entry = Entry::one(bits, size, advance, value);
        }
        Some(())
    }

    /// As many codes as begin at a place, while entries are of one each.
    fn step(&self, place: usize) -> Step {
        let (mut bits, mut advance, mut before_last) = (0, 0, 0);
        while bits < LOOK {
            let entry = self.look[place << bits & (SIZE - 1)];
            let size = entry.first_bits() - entry.code_bits();
            if !entry.is_known() || bits + entry.code_bits() > LOOK || size > LONGEST {
                break;
            }
            before_last = advance;
            advance += entry.first_advance();
            bits += entry.first_bits();
            if advance >= END_OF_BLOCK {
                break;
            }
        }
        Step(bits | advance << 6 | before_last << 15)
    }

    /// Adds to whole entries what is whole behind them.
    fn pair(&mut self) {
        let single = self.look.clone();
        for (place, entry) in self.look.iter_mut().enumerate() {
            let bits = entry.bits();
            if entry.is_whole() && bits < LOOK && entry.first_advance() < END_OF_BLOCK {
                // The bits that are missing are not what a code that fits into the others depends on.
                let second = single[place << bits & (SIZE - 1)];
                if second.is_whole() && bits + second.bits() <= LOOK {
                    *entry = entry.and(second);
                }
            }
        }
    }

    /// What a symbol adds to a position, and how many bits its number has.
    fn meaning(&self, symbol: u8) -> (u32, u32) {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        match (run, size) {
            _ if self.is_dc => (0, u32::from(symbol)),
            (15, 0) => (16, 0),
            (_, 0) => (END_OF_BLOCK, 0),
            _ => (run + 1, size),
        }
    }

    /// What the topmost bits begin with.
    #[inline(always)]
    pub fn look(&self, bits: u64) -> Entry {
        self.look[(bits >> (64 - LOOK)) as usize]
    }

    /// What the topmost bits begin with, for stepping over it.
    #[inline(always)]
    pub fn look_far(&self, bits: u64) -> Step {
        self.steps[(bits >> (64 - LOOK)) as usize]
    }

    /// A code too long to be looked up; none where there is none.
    #[cold]
    pub fn find(&self, bits: u64) -> Option<Entry> {
        let code = (bits >> 48) as u32;
        let length = (LOOK + 1..=16).find(|length| code < self.limits[*length as usize])?;
        let index = (code >> (16 - length)) as i32 + self.offsets[length as usize];
        let symbol = self.symbols.get(usize::try_from(index).ok()?)?;
        let (advance, size) = self.meaning(*symbol);
        Some(Entry::one(length, size, advance, None))
    }
}
