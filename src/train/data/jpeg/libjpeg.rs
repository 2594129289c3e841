//! libjpeg, held so that nothing of it can be misused: what it finds wrong unwinds to [`guarded`], through C code that
//! is compiled to be unwound.
//!
//! Two thirds of libjpeg's time go into Huffman codes, so where it can [`Codes`] reads them in its stead: libjpeg calls
//! its decoder of an MCU by a pointer, which is ours then. The rest, which decides about pixels, stays libjpeg's.

use std::ffi::{c_int, c_ulong, c_void};
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{ptr, slice};

use anyhow::{Result, anyhow};
use memchr::memmem;
use mozjpeg_sys::J_COLOR_SPACE::{JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr};
use mozjpeg_sys::{
    jpeg_common_struct, jpeg_create_decompress, jpeg_crop_scanline, jpeg_decompress_struct, jpeg_destroy_decompress,
    jpeg_error_mgr, jpeg_has_multiple_scans, jpeg_mem_src, jpeg_read_header, jpeg_read_scanlines, jpeg_skip_scanlines,
    jpeg_start_decompress, jpeg_std_error,
};

use super::huffman::Codes;

/// libjpeg's words for what is wrong.
struct Damage(String);

/// What its words begin with where it would go on and paint over damage.
const DAMAGE: [&str; 5] = [
    "Corrupt JPEG data: bad",
    "Corrupt JPEG data: found marker",
    "Corrupt JPEG data: premature end",
    "Inconsistent progression",
    "Premature end of JPEG file",
];

/// Rows that are asked for at once, for libjpeg gives a few at a time.
const ROWS: usize = 16;

/// Who reads Huffman codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// [`Codes`], where it can.
    Fast,
    Libjpeg,
}

/// Does `work` fast, and where anything is odd again at libjpeg's pace, for it to judge.
///
/// # Errors
/// When a [`Reader`] unwinds.
pub fn guarded<T>(mut work: impl FnMut(Pace) -> T) -> Result<T> {
    let mut at = |pace| {
        catch_unwind(AssertUnwindSafe(|| work(pace))).map_err(|thrown| match thrown.downcast::<Damage>() {
            Ok(damage) => anyhow!(damage.0),
            Err(panic) => resume_unwind(panic),
        })
    };
    at(Pace::Fast).or_else(|_| at(Pace::Libjpeg))
}

/// The beginning of libjpeg's `struct jpeg_entropy_decoder`.
#[repr(C)]
struct EntropyDecoder {
    start_pass: unsafe extern "C-unwind" fn(&mut jpeg_decompress_struct),
    decode_mcu: unsafe extern "C-unwind" fn(&mut jpeg_decompress_struct, *mut *mut [i16; 64]) -> c_int,
}

/// Where `jpeg_decompress_struct` points to it: the fifth of the pointers at its end. The binding hides the field; its
/// version is pinned, and so is what the struct looks like.
const ENTROPY: usize = size_of::<jpeg_decompress_struct>() - 5 * size_of::<*mut EntropyDecoder>();

/// What stands in for libjpeg's decoder of MCUs.
struct Fast<'a> {
    codes: Codes<'a>,
    /// Of the next MCU, and those of a row that are looked at.
    column: usize,
    shown: Range<usize>,
    /// Whether pixels are means of blocks.
    means: bool,
}

/// A JPEG that is being read. Every function may unwind, with [`Damage`].
pub struct Reader<'a> {
    /// On the heap, for libjpeg points into it.
    state: Box<jpeg_decompress_struct>,
    _errors: Box<jpeg_error_mgr>,
    bytes: &'a [u8],
    /// libjpeg points into it.
    fast: Option<Box<Fast<'a>>>,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    pub fn new(bytes: &'a [u8], pace: Pace) -> Reader<'a> {
        // SAFETY: all zeros is a valid value of both, numbers and pointers that libjpeg sets. `state` keeps a pointer
        // to `errors` and to `bytes`, which live as long as it does. `Reader` is made as soon as there is something to
        // free, so that it is freed where `jpeg_read_header` unwinds.
        unsafe {
            let mut errors: Box<jpeg_error_mgr> = Box::new(mem::zeroed());
            let mut state: Box<jpeg_decompress_struct> = Box::new(mem::zeroed());
            state.common.err = jpeg_std_error(&mut errors);
            errors.error_exit = Some(on_error);
            errors.emit_message = Some(on_message);
            jpeg_create_decompress(&mut *state);
            let mut reader = Reader { state, _errors: errors, bytes, fast: None };
            jpeg_mem_src(&mut reader.state, bytes.as_ptr(), bytes.len() as c_ulong);
            jpeg_read_header(&mut reader.state, 1);
            if pace == Pace::Fast {
                let fast = |codes| Box::new(Fast { codes, column: 0, shown: 0..0, means: false });
                reader.fast = Codes::new(bytes).map(fast);
            }
            reader
        }
    }

    /// Height and width.
    pub fn size(&self) -> (usize, usize) {
        (self.state.image_height as usize, self.state.image_width as usize)
    }

    /// Whether pixels of so many channels are what the image says: grey, or three colours of any image but CMYK.
    pub fn gives(&self, channels: usize) -> bool {
        match self.state.jpeg_color_space {
            JCS_GRAYSCALE => channels == 1 || channels == 3,
            JCS_YCbCr | JCS_RGB => channels == 3,
            _ => false,
        }
    }

    /// Begins to decode at so many eighths of the size: height and width.
    pub fn start(&mut self, channels: usize, eighths: u32) -> (usize, usize) {
        self.state.out_color_space = if channels == 1 { JCS_GRAYSCALE } else { JCS_RGB };
        (self.state.scale_num, self.state.scale_denom) = (eighths, 8);
        // SAFETY: the header is read.
        unsafe { jpeg_start_decompress(&mut self.state) };
        (self.state.output_height as usize, self.state.output_width as usize)
    }

    /// Decodes rows and at least the columns, both within what `start` said: the first column, how many there are, and
    /// their pixels `[rows, columns, channels]`.
    pub fn read(&mut self, rows: Range<usize>, columns: Range<usize>, channels: usize) -> (usize, usize, Vec<u8>) {
        assert!(rows.end <= self.state.output_height as usize && columns.end <= self.state.output_width as usize);
        assert_eq!(channels as c_int, self.state.output_components);
        // Colours are smoothed over neighbours, which a cut would take away.
        let mut first = columns.start.saturating_sub(1) as u32;
        let mut width = (columns.end as u32 + 1).min(self.state.output_width) - first;
        // SAFETY: decoding has begun and no row is read; the columns are within the image.
        unsafe { jpeg_crop_scanline(&mut self.state, &mut first, &mut width) };
        self.hasten(first as usize..(first + width) as usize);
        let stride = width as usize * channels;
        let mut pixels = vec![0u8; rows.len() * stride];
        // SAFETY: the rows are within the image, and those asked for within `pixels`: libjpeg writes `output_width`,
        // which is `width` now, pixels of `channels` bytes to each.
        unsafe {
            if rows.start > 0 {
                jpeg_skip_scanlines(&mut self.state, rows.start as u32);
            }
            let mut left = &mut pixels[..];
            while !left.is_empty() {
                let mut wanted = [ptr::null_mut(); ROWS];
                let lines = left.chunks_exact_mut(stride).zip(&mut wanted);
                let count = lines.map(|(line, to)| *to = line.as_mut_ptr()).count();
                let read = jpeg_read_scanlines(&mut self.state, wanted.as_mut_ptr(), count as u32) as usize;
                // It would have unwound.
                assert!(read > 0, "libjpeg gives no row");
                left = &mut left[read * stride..];
            }
        }
        (first as usize, width as usize, pixels)
    }

    /// Reads codes of the columns from here on in libjpeg's stead, where that can be done.
    fn hasten(&mut self, columns: Range<usize>) {
        // SAFETY: the header is read, up to the first byte of the first scan.
        let left = unsafe { (*self.state.src).bytes_in_buffer };
        // Who reads a header otherwise than libjpeg has read another image.
        self.fast.take_if(|fast| fast.codes.start() != self.bytes.len() - left);
        let Some(fast) = &mut self.fast else { return };
        let eighths = self.state.scale_num as usize;
        let (mcu_width, ..) = fast.codes.shape();
        let mcu = mcu_width * eighths;
        fast.shown = columns.start / mcu..columns.end.div_ceil(mcu);
        fast.means = eighths == 1;
        self.state.common.client_data = ptr::from_mut::<Fast<'_>>(fast).cast::<c_void>();
        // SAFETY: decoding has begun, so there is a decoder, at `ENTROPY` and made of two functions and more. `fast` is
        // on the heap and goes when `self` does, which nothing of libjpeg outlives.
        unsafe {
            let entropy = ptr::from_mut::<jpeg_decompress_struct>(&mut self.state).byte_add(ENTROPY);
            (**entropy.cast::<*mut EntropyDecoder>()).decode_mcu = decode_mcu;
        }
    }

    /// Whether the end of the image follows what is read.
    pub fn has_end(&mut self) -> bool {
        // SAFETY: the header is read; the source is that of `jpeg_mem_src`, which counts down what is left of `bytes`.
        let (scans, left) = unsafe { (jpeg_has_multiple_scans(&self.state), (*self.state.src).bytes_in_buffer) };
        // Of several scans all are read before the first row, and a missing end unwinds. Of one, the end is the only
        // place of these two bytes; they may have been read.
        let read = self.bytes.len().saturating_sub(left + 2);
        let from = self.fast.as_ref().map_or(read, |fast| fast.codes.end());
        scans != 0 || memmem::find(&self.bytes[from..], &[0xff, 0xd9]).is_some()
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`; to free finds nothing wrong.
        unsafe { jpeg_destroy_decompress(&mut self.state) };
    }
}

/// In the place of libjpeg's own, whose arguments and result it has.
unsafe extern "C-unwind" fn decode_mcu(state: &mut jpeg_decompress_struct, blocks: *mut *mut [i16; 64]) -> c_int {
    // SAFETY: put there by `hasten`, and nothing else is told of it.
    let fast = unsafe { &mut *state.common.client_data.cast::<Fast<'_>>() };
    let (_, mcus_per_row, count) = fast.codes.shape();
    let is_shown = !blocks.is_null() && fast.shown.contains(&fast.column);
    // SAFETY: libjpeg gives an MCU's blocks, one behind the other, as its own transforms take for granted.
    let blocks = is_shown.then(|| unsafe { slice::from_raw_parts_mut(*blocks, count) });
    if fast.codes.mcu(blocks, fast.means).is_err() {
        resume_unwind(Box::new(Damage("its Huffman codes are odd".to_owned())));
    }
    fast.column = (fast.column + 1) % mcus_per_row;
    1
}

extern "C-unwind" fn on_error(common: &mut jpeg_common_struct) {
    resume_unwind(Box::new(Damage(text(common))));
}

/// What is odd but does not matter, as bytes that belong to nothing, is read over, as PIL does.
extern "C-unwind" fn on_message(common: &mut jpeg_common_struct, level: c_int) {
    if level < 0 {
        let text = text(common);
        if DAMAGE.iter().any(|words| text.starts_with(words)) {
            resume_unwind(Box::new(Damage(text)));
        }
    }
}

fn text(common: &mut jpeg_common_struct) -> String {
    let mut buffer = [0u8; 80];
    // SAFETY: `err` is that of `Reader::new`. 80 bytes are what libjpeg asks for, with a zero at the end; the binding
    // has them shared though they are written, so the function is called by its true type.
    unsafe {
        if let Some(format) = (*common.err).format_message {
            type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8);
            let format: Format = mem::transmute(format);
            format(common, buffer.as_mut_ptr());
        }
    }
    let text = buffer.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
