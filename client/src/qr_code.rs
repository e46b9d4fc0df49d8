//! QR codes drawn with block characters: two modules a character, one above the other.

use anyhow::{Context, Result};
use matrix_sdk::encryption::verification::QrVerification;
use qrcode::{Color, QrCode};

/// The specification asks for four light modules around the code; readers find it with two, and
/// terminals are small.
const QUIET_ZONE: usize = 2;

/// The code that the other side scans, and its content for those who have no camera.
pub struct Drawing {
    /// The code as text, light modules drawn as blocks (terminals are dark).
    pub picture: String,
    /// The bytes in the code.
    pub bytes: Vec<u8>,
}

impl Drawing {
    /// Draws the code of a verification.
    pub fn of(verification: &QrVerification) -> Result<Self> {
        let bytes = verification.to_bytes().context("the QR code could not be made")?;
        Ok(Self { picture: draw(&bytes)?, bytes })
    }
}

/// Draws bytes as a QR code.
pub fn draw(bytes: &[u8]) -> Result<String> {
    let code = QrCode::new(bytes).context("too much for a QR code")?;
    let width = code.width();
    let light = |x: usize, y: usize| {
        let inside =
            (QUIET_ZONE..QUIET_ZONE + width).contains(&x) && (QUIET_ZONE..QUIET_ZONE + width).contains(&y);
        !inside || code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Light
    };
    let side = width + 2 * QUIET_ZONE;
    let mut text = String::new();
    for y in (0..side).step_by(2) {
        for x in 0..side {
            // The side is odd: below the last row there is nothing to draw.
            text.push(match (light(x, y), y + 1 < side && light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a drawing back into modules, dark = true, without its quiet zone.
    fn modules(picture: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in picture.lines() {
            rows.push(line.chars().map(|c| !matches!(c, '█' | '▀')).collect::<Vec<_>>());
            rows.push(line.chars().map(|c| !matches!(c, '█' | '▄')).collect());
        }
        let side = rows[0].len();
        rows.truncate(side);
        let inner = QUIET_ZONE..side - QUIET_ZONE;
        rows[inner.clone()].iter().map(|row| row[inner.clone()].to_vec()).collect()
    }

    #[test]
    fn the_drawing_shows_every_module() {
        let bytes = b"MATRIX\x02\x01 some bytes of a verification";
        let code = QrCode::new(bytes).unwrap();
        let expected: Vec<Vec<bool>> = (0..code.width())
            .map(|y| (0..code.width()).map(|x| code[(x, y)] == Color::Dark).collect())
            .collect();
        assert_eq!(modules(&draw(bytes).unwrap()), expected);
    }

    #[test]
    fn the_drawing_is_square_and_surrounded_by_light() {
        let picture = draw(b"x").unwrap();
        let lines: Vec<_> = picture.lines().collect();
        let side = lines[0].chars().count();
        assert_eq!(lines.len(), side.div_ceil(2));
        assert!(lines.iter().all(|line| line.chars().count() == side && line.starts_with("██")));
        assert!(lines[0].chars().all(|c| c == '█'));
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(draw(&[0; 4000]).is_err());
    }
}
