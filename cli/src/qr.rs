//! A link as a picture that a phone reads, drawn with half blocks: two rows of it on one line.

use fast_qr::{ECL, QRBuilder};
use warren_daemon::control::model::{ApiError, exit};

/// Rows and columns of light around the picture, which readers need (ISO/IEC 18004 §6.3.8: four).
const QUIET: usize = 4;

/// The picture, light on dark as terminals are: readers take it either way, and most terminals are dark.
///
/// # Errors
/// When the text is too long for any picture, which no link is.
pub(crate) fn picture(text: &str) -> Result<String, ApiError> {
    // Capitals and digits alone take a third less room, and a link is read in any case.
    let capitals = text.to_ascii_uppercase();
    let built = QRBuilder::new(capitals).ecl(ECL::L).build();
    let code = built.map_err(|error| {
        let message = format!("cannot draw this: {error:?}");
        ApiError::new("internal", exit::OTHER, message, "")
    })?;
    let size = code.size;
    let is_dark = |row: usize, column: usize| {
        let inside = |at: usize| (QUIET..QUIET + size).contains(&at);
        inside(row) && inside(column) && code[row - QUIET][column - QUIET].value()
    };
    let side = size + 2 * QUIET;
    let line = |row: usize| -> String {
        let block = |column| match (
            is_dark(row, column),
            row + 1 < side && is_dark(row + 1, column),
        ) {
            (false, false) => '\u{2588}',
            (false, true) => '\u{2580}',
            (true, false) => '\u{2584}',
            (true, true) => ' ',
        };
        (0..side).map(block).collect()
    };
    let lines: Vec<String> = (0..side).step_by(2).map(line).collect();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fits_a_terminal_of_80_columns_and_has_a_rim() {
        let link = format!("p2p:{}", "a".repeat(116));
        let picture = picture(&link).unwrap();
        let lines: Vec<&str> = picture.lines().collect();
        let width = lines[0].chars().count();
        assert!(width <= 80, "{width}");
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert!(
            lines[..2]
                .iter()
                .all(|line| line.chars().all(|it| it == '\u{2588}'))
        );
        assert!(lines[2].contains('\u{2580}') || lines[2].contains(' '));
    }
}
