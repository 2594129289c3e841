//! What a JPEG's header says of its codes (ITU-T T.81, annex B).

use std::rc::Rc;

use super::super::segments;
use super::table::Table;

/// One block of an MCU.
pub struct Block {
    /// Place of its component in the scan.
    pub component: usize,
    pub dc_table: usize,
    pub ac_table: usize,
    /// Whether its component has fewer samples both ways than another: of an image at an eighth of its size, it has two
    /// pixels each way.
    pub is_coarse: bool,
}

pub struct Layout {
    pub blocks: Vec<Block>,
    pub dc: [Option<Rc<Table>>; 4],
    pub ac: [Option<Rc<Table>>; 4],
    /// Of an MCU, in eight pixels.
    pub mcu_width: usize,
    pub mcus_per_row: usize,
    /// In MCUs; 0 is none.
    pub restart_interval: u32,
    /// The first byte of the scan.
    pub start: usize,
}

/// Of a frame header.
struct Component {
    id: u8,
    across: usize,
    down: usize,
}

struct Frame {
    width: usize,
    components: Vec<Component>,
}

impl Layout {
    /// None where it is not that of a baseline or extended sequential JPEG of 8 bits whose components share one scan, or
    /// where anything in it is unusual.
    pub fn read(bytes: &[u8]) -> Option<Layout> {
        let (mut dc, mut ac) = ([const { None }; 4], [const { None }; 4]);
        let (mut frame, mut restart_interval) = (None, 0);
        for (marker, segment, end) in segments(bytes) {
            match marker {
                0xc0 | 0xc1 => frame = Some(read_frame(segment)?),
                0xc4 => read_tables(segment, &mut dc, &mut ac)?,
                0xdd => restart_interval = u32::from(short(segment, 0)?),
                0xda => {
                    let frame = frame?;
                    let blocks = read_scan(segment, &frame)?;
                    // What stands alone is not interleaved: its MCUs are single blocks.
                    let alone = frame.components.len() == 1;
                    let widest = frame.components.iter().map(|component| component.across).max()?;
                    let mcu_width = if alone { 1 } else { widest };
                    let mcus_per_row = frame.width.div_ceil(8 * mcu_width);
                    return Some(Layout { blocks, dc, ac, mcu_width, mcus_per_row, restart_interval, start: end });
                }
                // Quantisation; what programs write down for themselves.
                0xdb | 0xe0..=0xef | 0xfe => {}
                // Other frames, and what changes them; what has no length; what nobody knows.
                _ => return None,
            }
        }
        None
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_frame(segment: &[u8]) -> Option<Frame> {
    let [8, _, _, _, _, count, components @ ..] = segment else { return None };
    let components = components.chunks_exact(3).take(usize::from(*count)).map(|component| Component {
        id: component[0],
        across: usize::from(component[1] >> 4),
        down: usize::from(component[1] & 15),
    });
    let components: Vec<Component> = components.collect();
    let right = |sampling: usize| (1..=4).contains(&sampling);
    let sound = components.iter().all(|component| right(component.across) && right(component.down));
    // libjpeg has rules of its own for components of one name.
    let named =
        components.iter().enumerate().all(|(i, component)| components[..i].iter().all(|o| o.id != component.id));
    let width = usize::from(short(segment, 3)?);
    (components.len() == usize::from(*count) && (1..=4).contains(count) && sound && named && width > 0)
        .then_some(Frame { width, components })
}

fn read_tables(mut segment: &[u8], dc: &mut [Option<Rc<Table>>; 4], ac: &mut [Option<Rc<Table>>; 4]) -> Option<()> {
    while let [kind, rest @ ..] = segment {
        let counts: &[u8; 16] = rest.first_chunk()?;
        let symbols = rest.get(16..16 + counts.iter().map(|count| usize::from(*count)).sum::<usize>())?;
        segment = &rest[16 + symbols.len()..];
        let is_dc = kind >> 4 == 0;
        let table = Table::kept(counts, symbols, is_dc)?;
        let to = if is_dc { &mut *dc } else { &mut *ac };
        *to.get_mut(usize::from(kind & 15))? = Some(table);
    }
    Some(())
}

/// The blocks of an MCU, where the scan is of all components and in full.
fn read_scan(segment: &[u8], frame: &Frame) -> Option<Vec<Block>> {
    let count = frame.components.len();
    if usize::from(*segment.first()?) != count || segment.get(1 + 2 * count..)? != [0, 63, 0] {
        return None;
    }
    let most = |of: fn(&Component) -> usize| frame.components.iter().map(of).max().unwrap_or(1);
    let (widest, tallest) = (most(|component| component.across), most(|component| component.down));
    let mut blocks = Vec::new();
    for (component, chosen) in segment[1..].chunks_exact(2).take(count).enumerate() {
        let of = frame.components.iter().find(|component| component.id == chosen[0])?;
        let alone = count == 1;
        for _ in 0..if alone { 1 } else { of.across * of.down } {
            blocks.push(Block {
                component,
                dc_table: usize::from(chosen[1] >> 4).min(4),
                ac_table: usize::from(chosen[1] & 15).min(4),
                is_coarse: of.across < widest && of.down < tallest,
            });
        }
    }
    let known = |block: &Block| block.dc_table < 4 && block.ac_table < 4;
    (blocks.len() <= 10 && blocks.iter().all(known)).then_some(blocks)
}
