//! A device's label: what a person reads, and a QR code of the same for a machine. As text, SVG and PNG.

use qrcodegen::{QrCode, QrCodeEcc};

use crate::fingerprint::Fingerprint;
use crate::manifest::ManifestEntry;
use crate::name::{HardwareSerial, MinionId};

mod bitmap;

use bitmap::Bitmap;

/// The quiet zone around the code, in modules (ISO/IEC 18004 §6.3.8).
const QUIET: usize = 4;
/// Pixels of a module: 0.68 mm at 300 dpi, which a hand scanner reads from an arm's length.
const PIXELS: usize = 8;
/// Pixels of a letter's dot, at most: the id is what one looks for.
const ID_SCALE: usize = 3;
const TEXT_SCALE: usize = 2;
const PIXELS_PER_METRE: u32 = 11_811;
const MILLIMETRES: f64 = PIXELS as f64 * 1000.0 / PIXELS_PER_METRE as f64;

/// A label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    id: MinionId,
    serial: HardwareSerial,
    certificate: Fingerprint,
}

impl Label {
    /// The label of a device that was issued.
    pub fn new(entry: &ManifestEntry) -> Self {
        Self { id: entry.id.clone(), serial: entry.serial.clone(), certificate: entry.certificate }
    }

    /// What the QR code says: `drover:1:<id>:<serial>:<SHA-256 of the birth certificate>`. Of these a
    /// serial number alone may have a colon, so it is what stands between the third and the last.
    pub fn payload(&self) -> String {
        format!("drover:1:{}:{}:{}", self.id, self.serial, self.certificate)
    }

    /// For people: the id, the serial number, the fingerprint. Ends in a line break.
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }

    /// A drawing in its true size.
    pub fn svg(&self) -> String {
        let code = self.code();
        let side = side(&code);
        let lines = self.lines();
        let (mut text, mut y) = (String::new(), side as f64);
        for line in &lines {
            // A monospaced letter is 0.6 em wide; long names are written smaller.
            let widest = (side - 2 * QUIET) as f64 / 0.6 / line.chars().count().max(1) as f64;
            let size = widest.min(3.0);
            y += size * 0.8;
            text.push_str(&format!(
                "<text x=\"{QUIET}\" y=\"{y:.2}\" font-size=\"{size:.2}\">{}</text>\n",
                escaped(line)
            ));
            y += size * 0.4;
        }
        let height = y + 2.0;
        let (mm_wide, mm_high) = (side as f64 * MILLIMETRES, height * MILLIMETRES);
        let runs = runs(&code).into_iter();
        let modules: String =
            runs.map(|(x, y, length)| format!("M{x} {y}h{length}v1h-{length}z")).collect();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"{mm_wide:.2}mm\" \
             height=\"{mm_high:.2}mm\" viewBox=\"0 0 {side} {height:.2}\">\n\
             <title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <path d=\"{modules}\" shape-rendering=\"crispEdges\"/>\n\
             <g font-family=\"monospace\">\n{text}</g>\n</svg>\n",
            escaped(self.id.as_str()),
        )
    }

    /// A picture for 300 dpi, in black and white.
    pub fn png(&self) -> Vec<u8> {
        let code = self.code();
        let width = side(&code) * PIXELS;
        let margin = QUIET * PIXELS;
        let lines = self.lines();
        let sizes = [ID_SCALE].into_iter().chain(std::iter::repeat(TEXT_SCALE));
        let fitted = lines.iter().zip(sizes);
        let wrapped: Vec<_> = fitted
            .flat_map(|(line, largest)| bitmap::wrapped(line, largest, width - 2 * margin))
            .collect();
        let text: usize = wrapped.iter().map(|line| line.height()).sum();
        let mut bitmap = Bitmap::new(width, width + text + margin / 2);
        for (x, y) in dark(&code) {
            bitmap.blacken(x * PIXELS, y * PIXELS, PIXELS);
        }
        let mut y = width;
        for line in wrapped {
            bitmap.write(margin, y, &line);
            y += line.height();
        }
        bitmap.png(PIXELS_PER_METRE)
    }

    fn lines(&self) -> Vec<String> {
        let digits = self.certificate.to_string();
        let mut lines = vec![self.id.to_string(), format!("serial {}", self.serial)];
        lines.push("SHA-256".to_owned());
        for row in digits.as_bytes().chunks(16) {
            let groups = row.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned());
            lines.push(groups.collect::<Vec<_>>().join(" "));
        }
        lines
    }

    fn code(&self) -> QrCode {
        QrCode::encode_text(&self.payload(), QrCodeEcc::Medium)
            .expect("invariant: names have bounds, and their sum fits into a QR code many times")
    }
}

/// The code's width with its quiet zone, in modules.
fn side(code: &QrCode) -> usize {
    usize::try_from(code.size()).unwrap_or(0) + 2 * QUIET
}

/// The dark modules, in the drawing's coordinates.
fn dark(code: &QrCode) -> impl Iterator<Item = (usize, usize)> {
    let rows = (0..code.size()).flat_map(move |y| (0..code.size()).map(move |x| (x, y)));
    let placed = |at: i32| usize::try_from(at).unwrap_or(0) + QUIET;
    rows.filter(|&(x, y)| code.get_module(x, y)).map(move |(x, y)| (placed(x), placed(y)))
}

/// Dark modules that touch in a row, as one: where it begins, and how long it is.
fn runs(code: &QrCode) -> Vec<(usize, usize, usize)> {
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    for (x, y) in dark(code) {
        match runs.last_mut() {
            Some((left, row, length)) if *row == y && *left + *length == x => *length += 1,
            Some(_) | None => runs.push((x, y, 1)),
        }
    }
    runs
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use jiff::Timestamp;
    use serde_json::Map;

    use super::*;
    use crate::fingerprint::KeyDigest;

    fn label(id: &str, serial: &str) -> Label {
        Label::new(&ManifestEntry {
            id: id.parse().unwrap(),
            serial: serial.parse().unwrap(),
            key: KeyDigest::of(b"key"),
            certificate: Fingerprint::of(b"certificate"),
            grains: Map::new(),
            issued: Timestamp::constant(1_800_000_000, 0),
            reissue: None,
        })
    }

    /// What a decoder that we did not write reads in the picture.
    fn scanned(png: &[u8]) -> String {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let info = reader.info();
        assert_eq!(
            (info.bit_depth, info.color_type),
            (png::BitDepth::One, png::ColorType::Grayscale)
        );
        let (width, height) = (info.width as usize, info.height as usize);
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let row = reader.next_frame(&mut bytes).unwrap().line_size;
        let grey = |x: usize, y: usize| bytes[y * row + x / 8] >> (7 - x % 8) & 1;
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| grey(x, y) * u8::MAX);
        let grids = image.detect_grids();
        let [grid] = grids.as_slice() else { panic!("{} codes", grids.len()) };
        grid.decode().unwrap().1
    }

    #[test]
    fn the_code_says_id_serial_number_and_fingerprint() {
        let longest = "W".repeat(64);
        for (id, serial) in [("rfid-0001", "SN0001"), ("a", "10/04:7 (b)"), (&longest, &longest)] {
            let label = label(id, serial);
            assert_eq!(scanned(&label.png()), label.payload());
        }
    }

    #[test]
    fn the_payload_can_be_taken_apart() {
        let payload = label("rfid-1", "10:04:7").payload();
        let (rest, fingerprint) = payload.rsplit_once(':').unwrap();
        assert_eq!(fingerprint, Fingerprint::of(b"certificate").to_string());
        let parts: Vec<_> = rest.splitn(4, ':').collect();
        assert_eq!(parts, ["drover", "1", "rfid-1", "10:04:7"]);
    }

    #[test]
    fn the_text_is_for_people() {
        assert_snapshot!(label("rfid-0001", "SN 0001").text(), @r"
        rfid-0001
        serial SN 0001
        SHA-256
        03d6 6dd0 8835 c1ca
        3f12 8cce acd1 f31a
        c941 6309 6b20 f445
        ae84 285b c083 2d72
        ");
    }

    #[test]
    fn the_drawing_has_the_same_modules_as_the_code() {
        let label = label("rfid-0001", "SN '1");
        let svg = label.svg();
        let code = label.code();
        let path = svg.split_once("d=\"").unwrap().1.split_once('"').unwrap().0;
        let drawn = path.split('M').skip(1).flat_map(|run| {
            let numbers: Vec<usize> =
                run.split(['z', 'h', 'v', ' ', '-']).filter_map(|part| part.parse().ok()).collect();
            let [x, y, length, 1, back] = numbers[..] else { panic!("{run}") };
            assert_eq!(back, length);
            (x..x + length).map(move |x| (x, y))
        });
        assert_eq!(drawn.collect::<Vec<_>>(), dark(&code).collect::<Vec<_>>());
        for line in label.lines() {
            assert!(svg.contains(&format!(">{line}</text>")), "{line}\n{svg}");
        }
    }
}
