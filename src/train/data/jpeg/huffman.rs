//! Huffman codes of baseline JPEGs (ITU-T T.81, annex F), read faster than libjpeg reads them: a code and the number
//! behind it are mostly found by one look into a table, and blocks that no window shows are stepped over.
//!
//! Coefficients are libjpeg's. What is not as it should be, damage above all, is [`Odd`], and left to libjpeg.

mod layout;
mod table;

use memchr::memchr;

use self::layout::{Block, Layout};
use self::table::{Entry, Table};

/// Where the n-th coefficient of a block stands.
const NATURAL: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// What only libjpeg can judge.
#[derive(Debug)]
pub struct Odd;

/// Looks into a table for which the bits of one filling are enough: all but the last take at most 11 bits, that 31.
const LOOKS: usize = 3;

/// Zeros behind a segment, for reading eight bytes at its end.
const PADDING: usize = 16;

/// The codes of a scan, read from its beginning to its end.
pub struct Codes<'a> {
    bytes: &'a [u8],
    layout: Layout,
    /// What is between two markers, without the zeros that are stuffed behind bytes of 255, and with [`PADDING`].
    segment: Vec<u8>,
    /// Of the image's bytes: the marker that ends the segment.
    end: usize,
    place: Place,
    /// Of the last block of each component: its first coefficient.
    means: [i32; 4],
    /// MCUs before the next restart marker, and which that is.
    before_restart: u32,
    restarts: u8,
}

impl<'a> Codes<'a> {
    /// None where the bytes are no baseline JPEG of one scan.
    pub fn new(bytes: &'a [u8]) -> Option<Codes<'a>> {
        let layout = Layout::read(bytes)?;
        let before_restart = layout.restart_interval;
        let (end, place) = (layout.start, Place::default());
        let segment = Vec::with_capacity(if before_restart == 0 { bytes.len() } else { 0 });
        let mut codes = Codes { bytes, layout, segment, end, place, means: [0; 4], before_restart, restarts: 0 };
        codes.take_segment(end);
        Some(codes)
    }

    /// Side of an MCU in eight pixels, MCUs of a row, and blocks of an MCU.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.layout.mcu_width, self.layout.mcus_per_row, self.layout.blocks.len())
    }

    /// Where the scan begins.
    pub fn start(&self) -> usize {
        self.layout.start
    }

    /// The first byte that is known not to belong to the codes.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Reads the next MCU, the blocks of one place of the image, into `blocks`, which are zeros: all coefficients, or the
    /// first of each that makes a single pixel at an eighth of the size, where `means` are enough. Without `blocks`, none.
    ///
    /// # Errors
    /// [`Odd`].
    pub fn mcu(&mut self, mut blocks: Option<&mut [[i16; 64]]>, means: bool) -> Result<(), Odd> {
        if self.layout.restart_interval > 0 {
            if self.before_restart == 0 {
                self.restart()?;
            }
            self.before_restart -= 1;
        }
        let mut bits = Bits { bytes: &self.segment, place: self.place };
        let Layout { blocks: all, dc, ac, .. } = &self.layout;
        for (index, Block { component, dc_table, ac_table, is_coarse }) in all.iter().enumerate() {
            let (Some(dc), Some(ac)) = (&dc[*dc_table], &ac[*ac_table]) else { return Err(Odd) };
            let mean = &mut self.means[*component];
            *mean = mean.wrapping_add(bits.number(dc)?);
            match &mut blocks {
                Some(blocks) => {
                    blocks[index][0] = *mean as i16;
                    if means && !is_coarse { bits.step_over(ac)? } else { bits.block(ac, &mut blocks[index])? }
                }
                None => bits.step_over(ac)?,
            }
        }
        self.place = bits.place;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Odd> {
        // What may be left are the bits that fill a byte.
        let used = self.place.at * 8 - self.place.held.max(0) as usize;
        let left = ((self.segment.len() - PADDING) * 8).checked_sub(used).ok_or(Odd)?;
        if left >= 8 || self.bytes.get(self.end..self.end + 2) != Some(&[0xff, 0xd0 + self.restarts]) {
            return Err(Odd);
        }
        self.take_segment(self.end + 2);
        self.restarts = (self.restarts + 1) % 8;
        self.before_restart = self.layout.restart_interval;
        self.means = [0; 4];
        Ok(())
    }

    fn take_segment(&mut self, start: usize) {
        self.segment.clear();
        let mut rest = &self.bytes[start..];
        // A byte of 255 belongs to the codes when a zero follows.
        while let Some(found) = memchr(0xff, rest)
            && rest.get(found + 1) == Some(&0)
        {
            self.segment.extend_from_slice(&rest[..=found]);
            rest = &rest[found + 2..];
        }
        let last = memchr(0xff, rest).unwrap_or(rest.len());
        self.segment.extend_from_slice(&rest[..last]);
        self.end = self.bytes.len() - rest.len() + last;
        self.segment.resize(self.segment.len() + PADDING, 0);
        self.place = Place::default();
    }
}

/// Between bits.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The first byte that is not in `bits`.
    at: usize,
    /// The next bits, the first on top; zeros, or already bits of `at`, below those held.
    bits: u64,
    /// How many are valid. Less than zero when more was used than there is.
    held: i32,
}

struct Bits<'a> {
    /// With [`PADDING`].
    bytes: &'a [u8],
    place: Place,
}

impl Bits<'_> {
    /// Holds at least 56 bits, unless all there are were used.
    #[inline(always)]
    fn refill(&mut self) {
        let Place { at, bits, held } = &mut self.place;
        if let Some(next) = self.bytes.get(*at..).and_then(<[u8]>::first_chunk) {
            *bits |= u64::from_be_bytes(*next) >> (*held & 63);
            *at += (63 - *held) as usize >> 3;
            *held |= 56;
        }
    }

    #[inline(always)]
    fn drop(&mut self, bits: u32) {
        self.place.bits <<= bits;
        self.place.held -= bits as i32;
    }

    /// The number behind a code that a look does not show whole, and how many coefficients it is to it.
    fn long(&mut self, table: &Table, entry: Entry) -> Result<(u32, i16), Odd> {
        let entry = if entry.is_known() { entry } else { table.find(self.place.bits).ok_or(Odd)? };
        self.drop(entry.code_bits());
        let size = entry.first_bits() - entry.code_bits();
        let value = match size {
            0 => 0,
            _ => table::extend((self.place.bits >> (64 - size)) as i32, size),
        };
        self.drop(size);
        Ok((entry.first_advance(), value))
    }

    /// A difference of means.
    #[inline(always)]
    fn number(&mut self, table: &Table) -> Result<i32, Odd> {
        self.refill();
        let entry = table.look(self.place.bits);
        let value = if entry.is_whole() {
            self.drop(entry.bits());
            entry.second_value()
        } else {
            self.long(table, entry)?.1
        };
        Ok(i32::from(value))
    }

    /// All but a block's first coefficient.
    #[inline(always)]
    fn block(&mut self, table: &Table, block: &mut [i16; 64]) -> Result<(), Odd> {
        let mut put = |at: u32, value| block[usize::from(NATURAL[at as usize & 63])] = value;
        let mut at = 0;
        while at < 63 {
            self.refill();
            for _ in 0..LOOKS {
                let entry = table.look(self.place.bits);
                let first = at + entry.first_advance();
                let second = first + entry.second_advance();
                if !entry.is_whole() {
                    let (advance, value) = self.long(table, entry)?;
                    at += advance;
                    if at < 64 {
                        put(at, value);
                    }
                    break;
                }
                if second < 64 {
                    self.drop(entry.bits());
                    put(first, entry.first_value());
                    put(second, entry.second_value());
                    at = second;
                    if at == 63 {
                        break;
                    }
                } else if first < 63 {
                    // The second ends the block.
                    self.drop(entry.bits());
                    put(first, entry.first_value());
                    at = second;
                    break;
                } else {
                    // So does the first; what follows is another block's.
                    self.drop(entry.first_bits());
                    if first == 63 {
                        put(first, entry.first_value());
                    }
                    at = first;
                    break;
                }
            }
        }
        self.after(at)
    }

    /// All but a block's first coefficient, of which none is looked at.
    #[inline(always)]
    fn step_over(&mut self, table: &Table) -> Result<(), Odd> {
        let mut at = 0;
        while at < 63 {
            self.refill();
            // At most 21 bits, and 31 of what comes after.
            let step = table.look_far(self.place.bits);
            if step.is_known() && at + step.before_last() < 63 {
                self.drop(step.bits());
                at += step.advance();
                if at >= 63 {
                    break;
                }
            }
            let step = table.look_far(self.place.bits);
            if step.is_known() && at + step.before_last() < 63 {
                self.drop(step.bits());
                at += step.advance();
            } else {
                let mut entry = table.look(self.place.bits);
                if !entry.is_known() {
                    entry = table.find(self.place.bits).ok_or(Odd)?;
                }
                self.drop(entry.first_bits());
                at += entry.first_advance();
            }
        }
        self.after(at)
    }

    /// Whether a block that ended at `at` was whole: within itself, and within the bytes.
    fn after(&self, at: u32) -> Result<(), Odd> {
        let Place { at: next, held, .. } = self.place;
        let is_within = held >= 0 && next * 8 - held as usize <= (self.bytes.len() - PADDING) * 8;
        if is_within && !(64..table::END_OF_BLOCK).contains(&at) { Ok(()) } else { Err(Odd) }
    }
}
