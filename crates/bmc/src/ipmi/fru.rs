//! Field replaceable unit information (IPMI Platform Management FRU Information Storage Definition): who made it, what it is, its number.

/// What a FRU says of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fru {
    pub(super) vendor: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
}

/// Reads the product area, then the chassis's and the board's for what it leaves open. Broken areas are passed over.
pub(super) fn read(bytes: &[u8]) -> Fru {
    let area = |at: usize| {
        let offset = usize::from(*bytes.get(at)?) * 8;
        let length = usize::from(*bytes.get(offset + 1)?) * 8;
        bytes.get(offset..offset + length).filter(|a| offset > 0 && a.first() == Some(&1))
    };
    let product = area(4).map(|a| fields(a, 3)).unwrap_or_default();
    let board = area(3).map(|a| fields(a, 6)).unwrap_or_default();
    let chassis = area(2).map(|a| fields(a, 3)).unwrap_or_default();
    let get = |fields: &[Option<String>], n: usize| fields.get(n).cloned().flatten();
    Fru {
        vendor: get(&product, 0).or_else(|| get(&board, 0)),
        model: get(&product, 1).or_else(|| get(&board, 1)),
        serial: get(&product, 4).or_else(|| get(&chassis, 1)).or_else(|| get(&board, 2)),
    }
}

/// The texts of an area, up to its end mark.
fn fields(area: &[u8], mut at: usize) -> Vec<Option<String>> {
    let mut all = Vec::new();
    while let Some(&head) = area.get(at).filter(|h| **h != 0xc1) {
        let length = usize::from(head & 0x3f);
        let Some(data) = area.get(at + 1..at + 1 + length) else { break };
        all.push(text(head >> 6, data));
        at += 1 + length;
    }
    all
}

fn text(kind: u8, data: &[u8]) -> Option<String> {
    let text: String = match kind {
        3 => data.iter().map(|b| char::from(*b)).collect(),
        // Four characters of six bits in three bytes.
        2 => data
            .chunks(3)
            .flat_map(|c| {
                let bits = c.iter().enumerate().fold(0u32, |acc, (i, b)| acc | u32::from(*b) << (8 * i));
                (0..c.len() * 8 / 6).map(move |i| char::from(0x20 + (bits >> (6 * i) & 0x3f) as u8))
            })
            .collect(),
        1 => data
            .iter()
            .flat_map(|b| [b >> 4, b & 15])
            .filter_map(|n| "0123456789 -.".chars().nth(usize::from(n)))
            .collect(),
        _ => return None,
    };
    let said = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    (!said.is_empty()).then(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_all_their_codings() {
        assert_eq!(text(3, b" PowerEdge \0").as_deref(), Some("PowerEdge"));
        // The example of the definition: "IPMI".
        assert_eq!(text(2, &[0x29, 0xdc, 0xa6]).as_deref(), Some("IPMI"));
        assert_eq!(text(1, &[0x12, 0x3b]).as_deref(), Some("123-"));
        assert_eq!(text(0, &[1, 2]), None);
    }

    #[test]
    fn broken_areas_are_passed_over() {
        for length in 0..40 {
            for fill in [0u8, 1, 0xff, 0xc1] {
                let _ = read(&vec![fill; length]);
            }
        }
        let mut bytes = vec![1, 0, 0, 0, 1, 0, 0, 0xfe, 1, 4, 0];
        for field in ["Acme", "Box 1", "", "", "SN-7"] {
            bytes.push(0xc0 | field.len() as u8);
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes.push(0xc1);
        bytes.resize(8 + 32, 0);
        let expected = Fru { vendor: Some("Acme".into()), model: Some("Box 1".into()), serial: Some("SN-7".into()) };
        assert_eq!(read(&bytes), expected);
    }
}
