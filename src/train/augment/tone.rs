//! Pixels that stay where they are and change their values.

/// Away from black for a factor above 1, towards it below.
pub fn brightness<const C: usize>(factor: f32, pixels: &mut [[u8; C]]) {
    let curve: [u8; 256] = std::array::from_fn(|value| blend(0, value as u8, factor));
    pixels.as_flattened_mut().iter_mut().for_each(|value| *value = curve[usize::from(*value)]);
}

/// Away from each pixel's own grey, or towards it. What is grey stays as it is.
pub fn color<const C: usize>(factor: f32, pixels: &mut [[u8; C]]) {
    for pixel in pixels {
        let grey = grey(*pixel);
        pixel.iter_mut().for_each(|value| *value = blend(grey, *value, factor));
    }
}

/// Away from the image's mean grey, or towards it.
pub fn contrast<const C: usize>(factor: f32, pixels: &mut [[u8; C]]) {
    let sum: u64 = pixels.iter().map(|pixel| u64::from(grey(*pixel))).sum();
    let mean = (sum as f64 / pixels.len() as f64 + 0.5) as u8;
    let curve: [u8; 256] = std::array::from_fn(|value| blend(mean, value as u8, factor));
    pixels.as_flattened_mut().iter_mut().for_each(|value| *value = curve[usize::from(*value)]);
}

/// Away from a smoothed image, or towards it; the outermost pixels stay as they are. `scratch` holds a copy.
pub fn sharpness<const C: usize>(factor: f32, side: usize, pixels: &mut [[u8; C]], scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(pixels.as_flattened());
    let pitch = side * C;
    let values = pixels.as_flattened_mut();
    for y in 1..side.saturating_sub(1) {
        for at in y * pitch + C..(y + 1) * pitch - C {
            // Five times itself and once each neighbour, over 13, rounded: never a tie.
            let rows = [at - pitch, at, at + pitch];
            let around = rows.map(|at| [at - C, at, at + C].map(|at| u32::from(scratch[at])).iter().sum::<u32>());
            let sum = around.iter().sum::<u32>() + 4 * u32::from(scratch[at]);
            values[at] = blend(((2 * sum + 13) / 26) as u8, scratch[at], factor);
        }
    }
}

/// Keeps the highest `bits` of each value.
pub fn posterize<const C: usize>(bits: u32, pixels: &mut [[u8; C]]) {
    let mask = (0xff00u32 >> bits) as u8;
    pixels.as_flattened_mut().iter_mut().for_each(|value| *value &= mask);
}

/// Inverts the values from `threshold` on.
pub fn solarize<const C: usize>(threshold: f64, pixels: &mut [[u8; C]]) {
    let inverted = |value: u8| if f64::from(value) < threshold { value } else { 255 - value };
    pixels.as_flattened_mut().iter_mut().for_each(|value| *value = inverted(*value));
}

/// Stretches each channel from its least and most to 0 and 255.
pub fn auto_contrast<const C: usize>(pixels: &mut [[u8; C]]) {
    by_channel(pixels, |counts| {
        let least = counts.iter().position(|count| *count > 0)?;
        let most = counts.iter().rposition(|count| *count > 0)?;
        let scale = 255.0 / (most > least).then_some((most - least) as f64)?;
        Some(std::array::from_fn(|value| (value as f64 * scale - least as f64 * scale) as u8))
    });
}

/// Spreads each channel so that every value is about as frequent.
pub fn equalize<const C: usize>(pixels: &mut [[u8; C]]) {
    by_channel(pixels, |counts| {
        let last = counts.iter().rfind(|count| **count > 0)?;
        let step = (counts.iter().sum::<u32>() - last) / 255;
        let mut sum = step / 2;
        (step > 0).then(|| {
            counts.map(|count| {
                let value = sum / step;
                sum += count;
                value.min(255) as u8
            })
        })
    });
}

/// Changes the values of each channel as `curve` says of how often there is each of them; none changes nothing.
fn by_channel<const C: usize>(pixels: &mut [[u8; C]], curve: impl Fn([u32; 256]) -> Option<[u8; 256]>) {
    for channel in 0..C {
        let mut counts = [0; 256];
        pixels.iter().for_each(|pixel| counts[usize::from(pixel[channel])] += 1);
        if let Some(curve) = curve(counts) {
            pixels.iter_mut().for_each(|pixel| pixel[channel] = curve[usize::from(pixel[channel])]);
        }
    }
}

/// `base` for a factor of 0, `own` for 1, beyond it for more; cut off, not rounded, as PIL does.
fn blend(base: u8, own: u8, factor: f32) -> u8 {
    (f32::from(base) + factor * (f32::from(own) - f32::from(base))) as u8
}

/// ITU-R 601's luma in PIL's 16 bits.
fn grey<const C: usize>(pixel: [u8; C]) -> u8 {
    match pixel.map(u32::from).as_slice() {
        [red, green, blue] => ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8,
        _ => pixel[0],
    }
}
