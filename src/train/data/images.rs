//! Images of any sizes with their labels: decoded in memory or in a file that is mapped, or encoded as they came.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{self, Orient};
use super::jpeg;
use super::listing::Entry;
use crate::job::{Decode, Resize};
use crate::train::resample;
use crate::train::window::Window;

/// Of an image without a label.
pub const UNLABELLED: u32 = u32::MAX;

/// Images decoded at once on their way into a file.
const CHUNK: usize = 256;
/// Bytes of a piece of a checksum.
const PIECE: usize = 16 << 20;

/// Images of one part of a data set.
#[derive(Debug)]
pub struct Images {
    store: Store,
    /// Heights and widths.
    sizes: Vec<(u32, u32)>,
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// `[N]`, below the number of classes, or [`UNLABELLED`].
    pub labels: Vec<u32>,
    /// Of every image as it was encoded; none where they came as pixels.
    digests: Vec<[u8; 32]>,
}

#[derive(Debug)]
enum Store {
    /// One image after the other, and where each begins.
    Decoded {
        pixels: Pixels,
        starts: Vec<usize>,
    },
    Encoded {
        entries: Vec<Entry>,
        orient: Orient,
    },
}

#[derive(Debug)]
enum Pixels {
    Memory(Vec<u8>),
    /// The first so many bytes of a file.
    Mapped(Mmap, usize),
}

/// One image, `[H, W, C]`.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub pixels: &'a [u8],
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// How a window becomes a square of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// In pixels.
    pub side: usize,
    pub flip: bool,
    pub resize: Resize,
    pub decode: Decode,
}

impl Images {
    /// Images of one size, `[N, H, W, C]`.
    pub fn of_one_size(pixels: Vec<u8>, (height, width, channels): (usize, usize, usize), labels: Vec<u32>) -> Images {
        Images::decoded(Pixels::Memory(pixels), vec![(height as u32, width as u32); labels.len()], channels, labels)
    }

    fn decoded(pixels: Pixels, sizes: Vec<(u32, u32)>, channels: usize, labels: Vec<u32>) -> Images {
        let starts = starts(&sizes, channels);
        Images { store: Store::Decoded { pixels, starts }, sizes, channels, labels, digests: Vec::new() }
    }

    /// Of images that lie encoded somewhere: sizes after they are turned, digests of their bytes.
    pub(super) fn encoded(
        entries: Vec<Entry>,
        orient: Orient,
        (sizes, digests): (Vec<(u32, u32)>, Vec<[u8; 32]>),
        channels: usize,
    ) -> Images {
        let labels = entries.iter().map(|entry| entry.label.unwrap_or(UNLABELLED)).collect();
        Images { store: Store::Encoded { entries, orient }, sizes, channels, labels, digests }
    }

    /// None.
    pub fn none(channels: usize) -> Images {
        Images::of_one_size(Vec::new(), (1, 1, channels), Vec::new())
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether they have labels: all have, or none.
    pub fn are_labelled(&self) -> bool {
        self.labels.first().is_some_and(|label| *label != UNLABELLED)
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Width and height.
    pub fn size_of(&self, index: usize) -> (usize, usize) {
        let (height, width) = self.sizes[index];
        (width as usize, height as usize)
    }

    /// Height and width, where all images have the same.
    pub fn size(&self) -> Option<(usize, usize)> {
        let first = self.sizes.first()?;
        self.sizes.iter().all(|size| size == first).then_some((first.0 as usize, first.1 as usize))
    }

    /// What an image is, for comparison with others of this set: of its bytes where it was encoded, else its pixels.
    pub fn digest(&self, index: usize) -> [u8; 32] {
        self.digests.get(index).copied().unwrap_or_else(|| {
            let (height, width) = self.sizes[index];
            let shape = [height, width].map(u32::to_le_bytes).concat();
            Sha256::new_with_prefix(shape).chain_update(self.pixels(index)).finalize().into()
        })
    }

    /// Of every image as it was encoded; none where they came as pixels.
    pub fn digests(&self) -> &[[u8; 32]] {
        &self.digests
    }

    /// Bytes of all images decoded.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.sizes.iter().map(|(height, width)| u64::from(*height) * u64::from(*width) * self.channels as u64).sum()
    }

    /// Of an image that is decoded.
    pub(super) fn pixels(&self, index: usize) -> &[u8] {
        let Store::Decoded { pixels, starts } = &self.store else { return &[] };
        &pixels.bytes()[starts[index]..starts[index + 1]]
    }

    /// Lets `body` see an image.
    ///
    /// # Errors
    /// When it is encoded and cannot be read, or is not what it was.
    pub fn see<R>(&self, index: usize, body: impl FnOnce(Image<'_>) -> R) -> Result<R> {
        let (width, height) = self.size_of(index);
        let pixels = match &self.store {
            Store::Decoded { .. } => Cow::Borrowed(self.pixels(index)),
            Store::Encoded { entries, orient } => Cow::Owned(self.decode(&entries[index], *orient, (height, width))?),
        };
        Ok(body(Image { pixels: &pixels, height, width, channels: self.channels }))
    }

    /// Writes a window of an image, `[side, side, C]`, into `to`.
    ///
    /// # Errors
    /// As [`Images::see`].
    pub fn view(&self, index: usize, window: Window, shape: Shape, to: &mut [u8]) -> Result<()> {
        let Shape { side, flip, resize, decode } = shape;
        if let Store::Encoded { entries, orient: Orient::Stored } = &self.store {
            let entry = &entries[index];
            let least = (decode == Decode::Reduced).then_some(side);
            let region = entry.bytes().and_then(|bytes| jpeg::decode_window(&bytes, self.channels, window, least));
            let region = region.with_context(|| entry.name.clone())?;
            resample::view(region.image(), region.window, resize, side, flip, to);
            return Ok(());
        }
        self.see(index, |image| resample::view(image, window, resize, side, flip, to))
    }

    fn decode(&self, entry: &Entry, orient: Orient, (height, width): (usize, usize)) -> Result<Vec<u8>> {
        let decoded = entry.bytes().and_then(|bytes| decode::decode(&bytes, self.channels, orient));
        let (h, w, pixels) = decoded.with_context(|| entry.name.clone())?;
        ensure!((h, w) == (height, width), "{} changed while it was used", entry.name);
        Ok(pixels)
    }

    /// The same images with so many channels: grey ones three times, colour as its luminance.
    #[must_use]
    pub fn with_channels(self, channels: usize) -> Images {
        if self.channels == channels {
            return self;
        }
        let Images { store, sizes, channels: before, labels, digests } = self;
        match store {
            Store::Encoded { .. } => Images { store, sizes, channels, labels, digests },
            Store::Decoded { pixels, .. } => {
                let pixels = pixels.bytes().chunks_exact(before);
                let pixels = match channels {
                    1 => pixels.map(|pixel| decode::luminance([pixel[0], pixel[1], pixel[2]])).collect(),
                    _ => pixels.flat_map(|pixel| [pixel[0]; 3]).collect(),
                };
                Images { digests, ..Images::decoded(Pixels::Memory(pixels), sizes, channels, labels) }
            }
        }
    }

    /// Decoded into memory, if they are not.
    ///
    /// # Errors
    /// That of an image that cannot be read any more.
    pub(super) fn in_memory(self) -> Result<Images> {
        let Store::Encoded { entries, orient } = &self.store else { return Ok(self) };
        let mut pixels = vec![0; usize::try_from(self.decoded_bytes())?];
        let mut places = Vec::with_capacity(entries.len());
        let mut rest = &mut pixels[..];
        for (height, width) in &self.sizes {
            let (own, after) = rest.split_at_mut(*height as usize * *width as usize * self.channels);
            places.push(own);
            rest = after;
        }
        places.into_par_iter().zip(entries).zip(&self.sizes).try_for_each(|((to, entry), (height, width))| {
            to.copy_from_slice(&self.decode(entry, *orient, (*height as usize, *width as usize))?);
            anyhow::Ok(())
        })?;
        let Images { sizes, channels, labels, digests, .. } = self;
        Ok(Images { digests, ..Images::decoded(Pixels::Memory(pixels), sizes, channels, labels) })
    }

    /// Of the pixels that decoding gives; the last byte is another where a decoder gives others than before.
    pub(super) fn identity(&self) -> [u8; 32] {
        let turned = matches!(&self.store, Store::Encoded { orient: Orient::Exif, .. });
        let mut hash = Sha256::new_with_prefix([self.channels as u8, u8::from(turned), 1]);
        self.digests.iter().for_each(|digest| hash.update(digest));
        hash.finalize().into()
    }

    /// Decoded in `file`, which is made if it is not there, or not whole.
    ///
    /// # Errors
    /// As [`Images::in_memory`], and the disk's.
    pub(super) fn on_disk(self, file: &Path) -> Result<Images> {
        let Store::Encoded { entries, orient } = &self.store else { return Ok(self) };
        let bytes = usize::try_from(self.decoded_bytes())?;
        let mut map = map_whole(file, bytes);
        if map.is_none() {
            // Workers that make it at the same time make the same.
            let unfinished = file.with_extension(format!("{}.unfinished", std::process::id()));
            let write = || -> Result<()> {
                fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
                let mut open = OpenOptions::new();
                let file = open.read(true).write(true).create(true).truncate(true).open(&unfinished)?;
                let mut to = BufWriter::new(file);
                for (some, sizes) in entries.chunks(CHUNK).zip(self.sizes.chunks(CHUNK)) {
                    let decoded = some.par_iter().zip(sizes).map(|(entry, (height, width))| {
                        self.decode(entry, *orient, (*height as usize, *width as usize))
                    });
                    for pixels in decoded.collect::<Result<Vec<_>>>()? {
                        to.write_all(&pixels)?;
                    }
                }
                let written = to.into_inner()?;
                let digest = if bytes == 0 { checksum(&[]) } else { checksum(&map_file(&written)?) };
                (&written).write_all(&digest)?;
                written.sync_all()?;
                Ok(())
            };
            let hint =
                "hint: is there room? DISTILLERY_CACHE names another folder, `[run] images = \"encoded\"` does without";
            write()
                .and_then(|()| Ok(fs::rename(&unfinished, file)?))
                .with_context(|| format!("cannot keep decoded images in `{}`\n{hint}", file.display()))?;
            map = map_whole(file, bytes);
        }
        let map = map.with_context(|| format!("cannot map `{}`", file.display()))?;
        let Images { sizes, channels, labels, digests, .. } = self;
        Ok(Images { digests, ..Images::decoded(Pixels::Mapped(map, bytes), sizes, channels, labels) })
    }
}

/// A file of pixels followed by their checksum; none where it is not there, or not whole.
fn map_whole(file: &Path, bytes: usize) -> Option<Mmap> {
    let map = map_file(&File::open(file).ok()?).ok()?;
    let (pixels, digest) = map.split_at_checked(bytes)?;
    (checksum(pixels)[..] == *digest).then_some(map)
}

fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: such a file is written under another name, and never changed under its own.
    unsafe { Mmap::map(file) }
}

/// Of pieces, on all cores, and of those together.
fn checksum(bytes: &[u8]) -> [u8; 32] {
    let pieces: Vec<[u8; 32]> = bytes.par_chunks(PIECE).map(|piece| Sha256::digest(piece).into()).collect();
    let mut hash = Sha256::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    hash.finalize().into()
}

impl Pixels {
    fn bytes(&self) -> &[u8] {
        match self {
            Pixels::Memory(bytes) => bytes,
            Pixels::Mapped(map, bytes) => &map[..*bytes],
        }
    }
}

/// Where each image begins, and the end.
fn starts(sizes: &[(u32, u32)], channels: usize) -> Vec<usize> {
    let mut starts = vec![0];
    for (height, width) in sizes {
        starts.push(starts[starts.len() - 1] + *height as usize * *width as usize * channels);
    }
    starts
}
