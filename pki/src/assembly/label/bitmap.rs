//! A black and white picture, and the little that is drawn on it.

use font8x8::legacy::BASIC_LEGACY;

/// A letter's height and width, in dots.
const DOTS: usize = 8;

/// A picture, white at first; a bit for each pixel, as PNG has them.
pub(super) struct Bitmap {
    width: usize,
    height: usize,
    rows: Vec<u8>,
}

/// A line of text, as large as fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TextLine {
    text: String,
    scale: usize,
}

impl TextLine {
    pub(super) fn height(&self) -> usize {
        (DOTS + 2) * self.scale
    }
}

/// A text in letters as large as fit into this many pixels, up to a scale; the longest in several
/// lines.
pub(super) fn wrapped(text: &str, largest: usize, pixels: usize) -> Vec<TextLine> {
    let letters: Vec<char> = text.chars().collect();
    let fits = |&scale: &usize| letters.len() * DOTS * scale <= pixels;
    let scale = (1..=largest).rev().find(fits).unwrap_or(1);
    let rows = letters.chunks((pixels / (DOTS * scale)).max(1));
    rows.map(|row| TextLine { text: row.iter().collect(), scale }).collect()
}

impl Bitmap {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, rows: vec![0xff; width.div_ceil(8) * height] }
    }

    /// Makes a square black; what lies outside the picture is left out.
    pub(super) fn blacken(&mut self, left: usize, top: usize, side: usize) {
        for y in top..(top + side).min(self.height) {
            for x in left..(left + side).min(self.width) {
                self.rows[y * self.width.div_ceil(8) + x / 8] &= !(0x80 >> (x % 8));
            }
        }
    }

    pub(super) fn write(&mut self, left: usize, top: usize, line: &TextLine) {
        for (place, letter) in line.text.chars().enumerate() {
            let glyph = BASIC_LEGACY.get(letter as usize).copied().unwrap_or_default();
            for (y, row) in glyph.into_iter().enumerate() {
                for x in (0..DOTS).filter(|x| row >> x & 1 == 1) {
                    let left = left + (place * DOTS + x) * line.scale;
                    self.blacken(left, top + y * line.scale, line.scale);
                }
            }
        }
    }

    pub(super) fn png(&self, pixels_per_metre: u32) -> Vec<u8> {
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, size(self.width), size(self.height));
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder.set_pixel_dims(Some(png::PixelDimensions {
            xppu: pixels_per_metre,
            yppu: pixels_per_metre,
            unit: png::Unit::Meter,
        }));
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.rows)?;
            writer.finish()
        });
        written.expect(
            "invariant: the rows are as many and as long as was said, and memory takes all",
        );
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_large_as_fits_and_wrapped_where_nothing_does() {
        let scales = |text: &str| -> Vec<_> {
            wrapped(text, 3, 320).iter().map(|line| (line.text.len(), line.scale)).collect()
        };
        assert_eq!(scales("rfid-0001"), [(9, 3)]);
        assert_eq!(scales(&"x".repeat(20)), [(20, 2)]);
        assert_eq!(scales(&"x".repeat(64)), [(40, 1), (24, 1)]);
    }

    #[test]
    fn letters_stand_where_they_were_put() {
        let mut bitmap = Bitmap::new(16, 8);
        bitmap.write(8, 0, &TextLine { text: "I".to_owned(), scale: 1 });
        let rows: Vec<_> = bitmap.rows.chunks(2).map(|row| format!("{:08b}", !row[1])).collect();
        assert!(bitmap.rows.chunks(2).all(|row| row[0] == 0xff));
        assert_eq!(rows[0], "01111000");
        assert_eq!(rows[1], "00110000");
    }
}
