//! Labels at line ends, moved apart.

/// A label along one side of a panel: where it wants to be, and how tall it is, in points from the top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    pub centre: f64,
    pub height: f64,
}

/// Centres, in the order of the wishes, so that no two labels overlap, all lie within `top..bottom`, their order is that
/// of the wishes, and the sum of squared moves is least. If the labels are taller than the space, they run past `bottom`:
/// whoever lays out the panel makes it tall enough.
///
/// With the heights above a label taken off, "in order and apart" becomes "not descending": isotonic regression, solved
/// by pooling neighbours that violate it. Pushing pairs apart in rounds, the usual way, may never settle.
pub fn apart(wishes: &[Wish], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|&a, &b| wishes[a].centre.total_cmp(&wishes[b].centre));

    let mut above = 0.0;
    let mut offsets = vec![0.0; wishes.len()];
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for &index in &order {
        let wish = wishes[index];
        offsets[index] = above + wish.height / 2.0;
        above += wish.height;
        let (mut sum, mut count) = (wish.centre - offsets[index], 1);
        while let Some(&(before, size)) = pools.last() {
            if before / size as f64 <= sum / count as f64 {
                break;
            }
            pools.pop();
            sum += before;
            count += size;
        }
        pools.push((sum, count));
    }

    let last = (bottom - above).max(top);
    let settled =
        pools.iter().flat_map(|&(sum, count)| std::iter::repeat_n((sum / count as f64).clamp(top, last), count));
    let mut centres = vec![0.0; wishes.len()];
    for (&index, start) in order.iter().zip(settled) {
        centres[index] = start + offsets[index];
    }
    centres
}
