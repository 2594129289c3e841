//! Pixels that move: every pixel is taken from the nearest one of the place it comes from; what comes from outside of
//! the image is black.

/// The place (a x + b y + c, d x + e y + f) that (x, y) is taken from: `[a, b, c, d, e, f]`, in pixels whose corners are
/// whole numbers.
pub type Map = [f64; 6];

/// Rows shifted against each other, the upper edge staying where it is; `strength` is the shift over the height.
pub fn shear_x(strength: f64) -> Map {
    [1.0, strength, 0.0, 0.0, 1.0, 0.0]
}

/// Columns shifted against each other, the left edge staying where it is.
pub fn shear_y(strength: f64) -> Map {
    [1.0, 0.0, 0.0, strength, 1.0, 0.0]
}

/// To the right and down.
pub fn translate(right: f64, down: f64) -> Map {
    [1.0, 0.0, -right, 0.0, 1.0, -down]
}

/// Whole pixels, towards zero, in a share of a side. A share that is a whole number of pixels but for its rounding is
/// that number.
pub fn whole_pixels(share: f64, side: usize) -> f64 {
    let pixels = share * side as f64;
    (pixels.abs() + 1e-9).trunc().copysign(pixels)
}

/// Against the clock, about the centre of an image of this side.
pub fn rotate(degrees: f64, side: usize) -> Map {
    // `libm`, for the same bits on every machine.
    let (sine, cosine) = libm::sincos(degrees.to_radians());
    let centre = side as f64 / 2.0;
    let stay = |x: f64, y: f64| centre - x * centre - y * centre;
    [cosine, -sine, stay(cosine, -sine), sine, cosine, stay(sine, cosine)]
}

/// Moves `pixels` `[side, side]` by `map`. Places are counted in steps of 2^-16 pixel, as PIL does; `scratch` holds a copy.
pub fn warp<const C: usize>(map: Map, side: usize, pixels: &mut [[u8; C]], scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(pixels.as_flattened());
    let (from, _) = scratch.as_chunks::<C>();
    let steps = |pixels: f64| (pixels * 65536.0 + 0.5).floor() as i64;
    let [a, b, c, d, e, f] = map;
    // Of the first pixel's centre, then of each row's first.
    let mut start = [steps(c + a * 0.5 + b * 0.5), steps(f + d * 0.5 + e * 0.5)];
    let (along, down) = ([steps(a), steps(d)], [steps(b), steps(e)]);
    let inside = 0..side as i64;
    for row in pixels.chunks_exact_mut(side) {
        let [mut x, mut y] = start;
        for pixel in row {
            let place = [x >> 16, y >> 16];
            *pixel = if place.iter().all(|at| inside.contains(at)) {
                from[place[1] as usize * side + place[0] as usize]
            } else {
                [0; C]
            };
            x += along[0];
            y += along[1];
        }
        start = [start[0] + down[0], start[1] + down[1]];
    }
}
