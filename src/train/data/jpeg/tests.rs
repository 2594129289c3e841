//! JPEGs against PIL, windows against wholes, and what damage does.

use std::panic::catch_unwind;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::huffman::Codes;
use super::*;
use crate::digest::hex;
use crate::job::Resize;
use crate::train::random::{Purpose, Stream};
use crate::train::resample::view;

/// JPEGs of every usual kind and what PIL decodes: `tests/golden/jpegs.py`.
#[derive(serde::Deserialize)]
struct Recorded {
    name: String,
    jpeg: String,
    height: usize,
    width: usize,
    channels: usize,
    sha256: String,
}

impl Recorded {
    fn all() -> Vec<Recorded> {
        serde_json::from_str(include_str!("../../../../tests/golden/jpegs.json")).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.jpeg).unwrap()
    }

    fn whole(&self) -> Window {
        Window { x: 0.0, y: 0.0, width: self.width as f64, height: self.height as f64 }
    }

    fn any_window(&self, stream: &mut Stream) -> Window {
        let length = |most: usize, unit: f64| 1.0 + unit * (most as f64 - 1.0);
        let (width, height) = (length(self.width, stream.unit()), length(self.height, stream.unit()));
        let x = stream.unit() * (self.width as f64 - width);
        Window { x, y: stream.unit() * (self.height as f64 - height), width, height }
    }
}

#[test]
fn whole_images_are_pils_to_the_byte() {
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let region = decode_window(&bytes, recorded.channels, recorded.whole(), None).unwrap();
        assert_eq!(region.window, recorded.whole());
        let image = region.image();
        assert_eq!((image.height, image.width), (recorded.height, recorded.width));
        let (height, width, pixels) = decode::decode(&bytes, recorded.channels, Orient::Stored).unwrap();
        assert_eq!((height, width), (recorded.height, recorded.width));
        assert!(image.pixels == pixels, "{}", recorded.name);
        if recorded.name != "CMYK" {
            assert_eq!(hex(&Sha256::digest(image.pixels)), recorded.sha256, "{}", recorded.name);
        }
    }
}

/// Every pixel of a window in full is that of the whole image.
#[test]
fn windows_are_cut_from_the_whole() {
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let whole = decode_window(&bytes, recorded.channels, recorded.whole(), None).unwrap();
        let mut stream = Stream::new(0, Purpose::TeacherView, 0);
        for _ in 0..150 {
            let window = recorded.any_window(&mut stream);
            let region = decode_window(&bytes, recorded.channels, window, None).unwrap();
            let image = region.image();
            let (left, top) = (window.x - region.window.x, window.y - region.window.y);
            let (left, top) = (left.round() as usize, top.round() as usize);
            let (first, end) = (window.x.floor() as usize, (window.x + window.width).ceil() as usize);
            let end = end.min(recorded.width);
            assert!(left <= first && left + image.width >= end, "{}: {window:?}", recorded.name);
            let c = recorded.channels;
            for y in window.y.floor() as usize..((window.y + window.height).ceil() as usize).min(recorded.height) {
                let of = |image: Image<'_>, x: usize, y: usize| {
                    let row = &image.pixels[y * image.width * c..][..image.width * c];
                    row[x * c..][..(end - first) * c].to_vec()
                };
                let (found, expected) = (of(image, first - left, y - top), of(whole.image(), first, y));
                assert_eq!(found, expected, "{}: row {y} of {window:?}", recorded.name);
            }
        }
    }
}

/// Views of a reduced scale differ by less than three of 255 on average, of grain and edges (the most was 2.5).
#[test]
fn reduced_scales_show_the_same() {
    let (mut reduced, mut worst) = (0, 0.0f64);
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let mut stream = Stream::new(1, Purpose::TeacherView, 0);
        for _ in 0..150 {
            let window = recorded.any_window(&mut stream);
            let shorter = window.width.min(window.height) as usize;
            let resolution = 1 + stream.below(shorter as u32 / 2 + 1) as usize;
            let shown = |least| {
                let region = decode_window(&bytes, recorded.channels, window, least).unwrap();
                let mut pixels = vec![0; resolution * resolution * recorded.channels];
                view(region.image(), region.window, Resize::BilinearAntialias, resolution, false, &mut pixels);
                (region.window.width, pixels)
            };
            let ((width, full), (narrow, small)) = (shown(None), shown(Some(resolution)));
            assert_eq!(width, window.width);
            assert!(narrow >= resolution as f64 || narrow == width, "{}: {narrow} for {resolution}", recorded.name);
            if narrow == width {
                assert_eq!(full, small, "{}: {window:?}", recorded.name);
                continue;
            }
            reduced += 1;
            let off = full.iter().zip(&small).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / full.len() as f64;
            if resolution >= 16 {
                worst = worst.max(off);
            }
        }
    }
    assert!(reduced > 300, "{reduced}");
    assert!(worst < 3.0, "{worst}");
}

#[test]
fn other_windows_and_other_bytes_are_refused() {
    let recorded = Recorded::all().remove(0);
    let bytes = recorded.bytes();
    for (x, width) in [(-1.0, 9.0), (0.0, 211.0), (205.0, 6.0), (3.0, 0.0), (f64::NAN, 1.0)] {
        let window = Window { x, y: 0.0, width, height: 5.0 };
        let error = decode_window(&bytes, 3, window, Some(2)).unwrap_err().to_string();
        assert!(error.contains("do not hold"), "{error}");
    }
    let error = decode_window(b"<html>", 3, recorded.whole(), None).unwrap_err().to_string();
    assert!(error.starts_with("no image"), "{error}");
}

/// Truncated anywhere, a JPEG is refused, whichever window is asked for.
#[test]
fn cut_off_images_are_refused() {
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let top = Window { height: 1.0, ..recorded.whole() };
        for cut in (0..bytes.len() - 2).step_by(7).chain([bytes.len() - 1]) {
            for window in [top, recorded.whole()] {
                let result = decode_window(&bytes[..cut], recorded.channels, window, Some(4));
                assert!(result.is_err(), "{} cut at {cut} of {}", recorded.name, bytes.len());
            }
        }
    }
}

/// As `decode_window` does when all of it is libjpeg's work. None where it is not.
fn by_libjpeg(bytes: &[u8], channels: usize, window: Window, least: Option<usize>) -> Option<Result<Region>> {
    guarded(|_| usual(bytes, Pace::Libjpeg, channels, |_| window, least)).transpose().map(Result::flatten)
}

/// Whatever bits are flipped: an error or pixels, as libjpeg by itself says, and no panic.
#[test]
fn damaged_images_are_refused_or_read() {
    let (mut refused, mut read, mut fast) = (0, 0, 0);
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let mut stream = Stream::new(2, Purpose::TeacherView, 0);
        for turn in 0..500 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + stream.below(3) {
                // Half of them in what comes before the scan.
                let most = if turn % 2 == 0 { 600.min(bytes.len()) } else { bytes.len() };
                damaged[stream.below(most as u32) as usize] ^= 1 << stream.below(8);
            }
            let window = recorded.any_window(&mut stream);
            let ours = catch_unwind(|| usual(&damaged, Pace::Fast, recorded.channels, |_| window, Some(8)));
            fast += usize::from(ours.is_ok());
            let first = decode_window(&damaged, recorded.channels, window, Some(8));
            let second = by_libjpeg(&damaged, recorded.channels, window, Some(8));
            let second = second.unwrap_or_else(|| decode_window(&damaged, recorded.channels, window, Some(8)));
            match (first, second) {
                (Ok(first), Ok(second)) => {
                    read += 1;
                    assert!(first.pixels == second.pixels, "{}: {turn}", recorded.name);
                }
                (Err(_), Err(_)) => refused += 1,
                _ => panic!("{}: {turn} is read once of two times", recorded.name),
            }
        }
    }
    assert!(refused > 500 && read > 500, "{refused} refused, {read} read");
    assert!(fast > 500 && fast < read, "{fast} of {read} read at once");
}

/// The codes of all kinds but the progressive are ours to read.
#[test]
fn codes_are_read_fast() {
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let codes = Codes::new(&bytes);
        assert_eq!(codes.is_some(), recorded.name != "progressive", "{}", recorded.name);
        let Some(mut codes) = codes else { continue };
        let (width, per_row, blocks) = codes.shape();
        assert_eq!(per_row, recorded.width.div_ceil(8 * width), "{}", recorded.name);
        // As many MCUs as there are, and no more.
        let height =
            if recorded.name == "4:2:0" || recorded.name == "tiny" || recorded.name == "restarts" { 2 } else { 1 };
        let all = per_row * recorded.height.div_ceil(8 * height);
        let mut total = vec![[0i16; 64]; blocks];
        for _ in 0..all {
            let mut some = vec![[0i16; 64]; blocks];
            codes.mcu(Some(&mut some), false).unwrap();
            total = some;
        }
        assert!(total.iter().flatten().any(|number| *number != 0), "{}", recorded.name);
        assert!((0..64).any(|_| codes.mcu(None, false).is_err()), "{}", recorded.name);
    }
}

/// At every scale.
#[test]
fn windows_are_libjpegs() {
    for recorded in Recorded::all() {
        let bytes = recorded.bytes();
        let mut stream = Stream::new(3, Purpose::TeacherView, 0);
        for least in [None, Some(1), Some(20), Some(60)] {
            for _ in 0..50 {
                let window = recorded.any_window(&mut stream);
                let Some(theirs) = by_libjpeg(&bytes, recorded.channels, window, least) else { continue };
                let ours = decode_window(&bytes, recorded.channels, window, least).unwrap();
                let theirs = theirs.unwrap();
                assert_eq!(ours.window, theirs.window, "{}", recorded.name);
                assert!(ours.pixels == theirs.pixels, "{}: {window:?}", recorded.name);
            }
        }
    }
}

/// Bytes that belong to nothing are read over, in a window as in the whole.
#[test]
fn what_does_not_matter_is_read_over() {
    let recorded = Recorded::all().remove(0);
    let bytes = recorded.bytes();
    let scan = bytes.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
    let odd = [&bytes[..scan], &[0, 1, 2, 3], &bytes[scan..]].concat();
    let clean = decode_window(&bytes, recorded.channels, recorded.whole(), None).unwrap();
    let read = decode_window(&odd, recorded.channels, recorded.whole(), None).unwrap();
    assert!(clean.pixels == read.pixels);
}

/// What libjpeg and we might read otherwise, libjpeg reads alone: a header behind a marker without length, components of
/// one name, a width of nothing.
#[test]
fn odd_headers_are_libjpegs() {
    let recorded = Recorded::all().remove(0);
    let bytes = recorded.bytes();
    let frame = bytes.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let put = |at: usize, odd: &[u8]| [&bytes[..at], odd, &bytes[at..]].concat();
    let comment = |inside: &[u8]| [&[0xff, 0xfe, 0, 2 + inside.len() as u8], inside].concat();
    // libjpeg steps over two bytes and finds a comment; with a length, it would be a frame of no width.
    let fake = comment(&[0, 0, 0, 0, 0xff, 0xc0, 0, 11, 8, 0, 9, 0, 0, 1, 1, 0x11, 0]);
    let mut behind = Vec::new();
    for marker in [0x00, 0x01, 0xd0] {
        behind.push(put(2, &[&[0xff, marker], &fake[..]].concat()));
    }
    let mut same_names = bytes.clone();
    let mut names = 0;
    for component in 0..3 {
        // In the frame; the scan asks for three of that name.
        same_names[frame + 10 + 3 * component] = 1;
        names += 1;
    }
    let scan = bytes.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
    (0..names).for_each(|component| same_names[scan + 5 + 2 * component] = 1);
    let mut narrow = bytes.clone();
    narrow[frame + 7..frame + 9].fill(0);
    for odd in behind.iter().chain([&same_names, &narrow]) {
        assert!(Codes::new(odd).is_none(), "{:02x?}", &odd[..12]);
        let theirs = by_libjpeg(odd, 3, recorded.whole(), None);
        match (decode_window(odd, 3, recorded.whole(), None), theirs) {
            (Ok(ours), Some(Ok(theirs))) => assert!(ours.pixels == theirs.pixels),
            (Err(_), Some(Err(_)) | None) => {}
            (ours, theirs) => panic!("{} {}", ours.is_ok(), theirs.is_some()),
        }
    }
}
