//! Tests of the formats of tables.

mod blocks;
mod golden;
mod lists;

/// The bytes of a text of hexadecimal digits and white space.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}
